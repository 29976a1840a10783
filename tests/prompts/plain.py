"""The towers as in the papers: every position of every class, every block in full. Slow, and shares no code with ours."""

import torch
import torch.nn.functional as F


def attention(block, q, k, v, extra, mask):
    """Sum over the extra rows' options of the attention of q over [option, k], one sequence at a time: (S,N,D)"""
    options = [(None, None)]
    if extra is not None:
        weights = [None] * len(extra.options) if extra.weights is None else extra.weights
        options = list(zip(weights, extra.options, strict=True))
    total = 0
    for weight, rows in options:
        keys, values, visible = block.ln_1(k), block.ln_1(v), mask
        if rows is not None and len(rows):
            more = block.ln_1(rows).expand(len(q), -1, -1)
            keys, values = torch.cat([more, keys], 1), torch.cat([more, values], 1)
            visible = None if mask is None else F.pad(mask, (len(rows), 0), value=0.0)
        out = block.attention(q_x=block.ln_1(q), k_x=keys, v_x=values, attn_mask=visible)
        total = total + (out if weight is None else weight * out)
    return total


def run(blocks, streams, prompts, put, mask):
    """All blocks on the four streams (queries, keys, values, residual), each (S,N,D) -> (S,N,D)"""
    for i, block in enumerate(blocks):
        if (rows := prompts.rows.get(i)) is not None:
            streams = part(streams[3], rows, put)
        q, k, v, residual = streams
        n = q.shape[1]
        x = residual + attention(block, q, k, v, prompts.extra.get(i), None if mask is None else mask[:n, :n])
        x = x + block.mlp(block.ln_2(x))
        streams = (x, x, x, x)
    return streams[3]


def part(x, rows, put):
    """The four streams with the rows in the slots of x; `put(x, rows, tensor)` writes one tensor there."""
    q = put(x, rows, rows.q)
    k, v = (q if t is None else put(x, rows, t) for t in (rows.k, rows.v))
    if isinstance(rows.residual, str):
        return q, k, v, q if rows.residual == "q" else x
    return q, k, v, put(x, rows, rows.residual)


def rows_of(t, per, c, image):
    """The prompt rows (n,D) of class `c` and an image."""
    return {"shared": lambda: t, "class": lambda: t[c], "image": lambda: t[image]}[per]()


def encode_text(clip, lists, prompts, images=1):
    """token lists with slots -> (images,C,d); 77 positions each"""
    model, context = clip.model, clip.model.context_length
    ids = torch.zeros(len(lists), context, dtype=torch.long)
    for row, tokens in zip(ids, lists, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    end = torch.tensor([len(tokens) - 1 for tokens in lists]).repeat(images)

    def put(x, rows, t):
        """x (images*C,N,D)"""
        x = x.clone()
        for g in range(images):
            for c in range(len(lists)):
                for position, token in enumerate(ids[c].tolist()):
                    if token < 0:
                        row = rows_of(t, rows.per, c, g)[-1 - token]
                        s = g * len(lists) + c
                        x[s, position] = x[s, position] + row if rows.add else row
        return x

    x = model.token_embedding(ids.clamp_min(0)).repeat(images, 1, 1)
    positions = model.positional_embedding
    streams = (x,) * 4 if prompts.inputs is None else part(x, prompts.inputs, put)
    streams = tuple(t + positions for t in streams)
    x = run(model.transformer.resblocks, streams, prompts, put, model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(x)), end] @ model.text_projection
    return x.unflatten(0, (images, len(lists)))


def encode_image(clip, images, prompts):
    """(B,3,S,S) -> (B,d); the slots stand behind CLS and patches"""
    visual = clip.model.visual
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], 1) + visual.positional_embedding
    n = x.shape[1]

    def put(x, rows, t):
        t = t if rows.per == "image" else t.expand(len(x), -1, -1)
        return torch.cat([x[:, :n], x[:, n:] + t if rows.add else t], 1)

    streams = (x,) * 4 if prompts.inputs is None else part(x, prompts.inputs, put)
    x = run(visual.transformer.resblocks, tuple(visual.ln_pre(t) for t in streams), prompts, put, None)
    return visual.ln_post(x[:, 0]) @ visual.proj
