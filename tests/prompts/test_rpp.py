"""RPP's prompts; numbers in test names: the test list of docs/pretraining.md."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from rpp_models import INDEX, LABELS, NAMES, L, N, gradients, model_of, pictures, rpp
from torch import nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import token_lists
from prompts.ivlp import IVLP
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from prompts.rpp import RPP
from prompts.zeroshot import ZeroShot


@pytest.fixture(scope="module")
def images():
    return pictures()


# ---------------------------------------------------------------- structure


def attention(block, q, k, v, mask):
    """nn.MultiheadAttention of three inputs, as the equations have it."""
    plain = nn.MultiheadAttention(q.shape[-1], block.attn.num_heads, batch_first=True)
    plain.load_state_dict(block.attn.state_dict())
    return plain(block.ln_1(q), block.ln_1(k), block.ln_1(v), attn_mask=mask, need_weights=False)[0]


def counts_of(rows):
    return [len(next(iter(row_streams.values()), ())) for row_streams in rows]


def by_the_equations(blocks, x, first, rows, causal, residual_source, prompt_update, entered=None):
    """x (S,M,D) through all blocks, whole sequences; `rows` a dict of (n,D) for each prompted block, from position `first` on.
    `entered`: what turns the first block's rows into what stands in it."""
    counts = counts_of(rows)
    for i, block in enumerate(blocks):
        changed = not i or (i < len(rows) and counts[i] != counts[i - 1])
        if i and changed:
            empty = x.new_zeros(len(x), counts[i], x.shape[-1])
            x = torch.cat([x[:, :first], empty, x[:, first + counts[i - 1] :]], 1)
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1) if causal else None
        q = k = v = residual = x
        if i < len(rows) and counts[i]:
            row_streams, slots = rows[i], first + torch.arange(counts[i])
            k_rows, v_rows = (row_streams.get(s, row_streams.get("q")) for s in "kv")
            q_rows = row_streams.get("q", k_rows)
            new = {"q": q_rows, "k": k_rows, "v": v_rows, "mean": (q_rows + k_rows + v_rows) / 3}
            if not i and entered:
                new = {s: entered(t) for s, t in new.items()}

            def put(t, x=x, slots=slots, changed=changed):
                carried = x[:, slots] if prompt_update == "carry" and not changed else 0
                return x.index_copy(1, slots, (carried + t).expand(len(x), -1, -1))

            q, k, v = put(new["q"]), put(new["k"]), put(new["v"])
            source = "q" if residual_source == "none" and changed else residual_source
            residual = x if source == "none" else put(new[source])
        h = residual + attention(block, q, k, v, mask)
        x = h + block.mlp(block.ln_2(h))
    return x


def reference(clip, learner, images, residual_source, prompt_update, first_layer_entry):
    """Text features (C,d) and image features (B,d), 28 positions a class at the input."""
    model, visual = clip.model, clip.model.visual
    (n_text, *_, last_text), (n_image, *_, last_image) = counts_of(learner.text_ctx), counts_of(learner.image_ctx)
    lists = token_lists(clip.tokenizer, NAMES, "X " * n_text + "{}." if n_text else "a photo of a {}.", n_text, "end")
    ids = torch.zeros(len(lists), model.context_length, dtype=torch.long)
    for row, tokens in zip(ids, lists, strict=True):
        row[: len(tokens)] = torch.tensor(tokens).clamp_min(0)
    positions = model.positional_embedding
    x = model.token_embedding(ids) + positions
    arguments = residual_source, prompt_update
    raw = first_layer_entry == "raw"
    enter = None if raw else lambda t: t + positions[1 : 1 + n_text]
    x = by_the_equations(model.transformer.resblocks, x, 1, learner.text_ctx, True, *arguments, enter)
    text = model.ln_final(x)[torch.arange(len(x)), ids.argmax(-1) + last_text - n_text] @ model.text_projection

    x = visual._embeds(images)
    patches = x.shape[1]
    x = torch.cat([x, x.new_zeros(len(x), n_image, x.shape[-1])], 1)
    enter = None if raw else visual.ln_pre
    x = by_the_equations(visual.transformer.resblocks, x, patches, learner.image_ctx, False, *arguments, enter)
    assert x.shape[1] == patches + last_image  # 5: the length stays
    return text, visual.ln_post(x[:, 0]) @ visual.proj


@pytest.mark.parametrize("entry", ["clip", "raw"])
@pytest.mark.parametrize("update", ["replace", "carry"])
@pytest.mark.parametrize("source", ["q", "k", "v", "mean", "none"])
@pytest.mark.parametrize("share", ["shared", "unshared", "kv_only"])
def test_2_8_10_the_equations(small_clip, images, share, source, update, entry):
    settings = {"residual_source": source, "prompt_update": update, "first_layer_entry": entry}
    for depth in (2, 3):
        model = model_of(small_clip, rpp(depth, qkv_share=share, **settings))
        out = model(images)
        text, image = reference(small_clip, model.learner, images, **settings)
        torch.testing.assert_close(out.text_features, text, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.image_features, image, rtol=1e-4, atol=1e-4)


FOUND = [
    {"text": [2, 2, 0], "image": [0, 3, 3]},
    {"text": [0, 1, 1], "image": [2, 0, 1]},
    {"text": [1, 3, 3], "image": [3, 3, 1]},
    {"text": [0, 0, 0], "image": [2, 2, 2]},
]


@pytest.mark.parametrize("lengths", FOUND)
@pytest.mark.parametrize("update", ["replace", "carry"])
@pytest.mark.parametrize("source", ["q", "mean", "none"])
@pytest.mark.parametrize("share", ["shared", "unshared", "kv_only"])
def test_lengths_by_block(small_clip, images, share, source, update, lengths):
    """The equations where the number of slots changes between blocks, which also changes which queries have no effect."""
    for entry in ("clip", "raw"):
        settings = {"residual_source": source, "prompt_update": update, "first_layer_entry": entry}
        model = model_of(small_clip, RPP(qkv_share=share, prompt_lengths=lengths, **settings))
        learner, out = model.learner, model(images)
        assert (counts_of(learner.text_ctx), counts_of(learner.image_ctx)) == tuple(lengths.values())
        text, image = reference(small_clip, learner, images, **settings)
        torch.testing.assert_close(out.text_features, text, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.image_features, image, rtol=1e-4, atol=1e-4)
        alive = sum(learner.get_parameter(name).numel() for name, g in gradients(model, images).items() if g.any())
        assert learner.effective_parameters() == alive
    assert learner.found_settings == {"prompt_lengths": lengths}


@pytest.mark.parametrize("share", ["shared", "unshared", "kv_only"])
def test_equal_lengths_are_the_uniform_method(small_clip, images, share):
    uniform = rpp(L, qkv_share=share)
    shaped = RPP(qkv_share=share, prompt_lengths={"text": [N] * L, "image": [N] * L})
    results = [model_of(small_clip, learner) for learner in (uniform, shaped)]
    assert torch.equal(*(model(images).logits for model in results))
    assert uniform.effective_parameters() == shaped.effective_parameters()


def test_the_words_of_init_start_the_first_block_where_they_suffice(small_clip):
    def first(n):
        learner = RPP(init="a photo of a", prompt_lengths={"text": [n, 1, 1], "image": [1, 1, 1]})
        PromptedCLIP(small_clip, learner).setup(TrainInfo(NAMES, 0))
        return learner.text_ctx[0]["k"]

    words = small_clip.embed_tokens(torch.tensor(small_clip.tokenizer.encode("a photo of a")))
    assert torch.equal(first(3), words[:3])
    assert not (first(5)[:4] == words).any()


@pytest.mark.parametrize("depth", [2, L])
def test_1_tied_prompts_are_ordinary_deep_prompts(small_clip, images, depth):
    torch.manual_seed(1)
    tied, ivlp = model_of(small_clip, rpp(depth, tied_init=True)), model_of(small_clip, IVLP(N, N, depth, depth, None))
    shared = model_of(small_clip, rpp(depth, qkv_share="shared"))
    streams = tied.learner.state_dict()
    assert all(torch.equal(tensor, streams[name[:-1] + "q"]) for name, tensor in streams.items())
    deep = {name[:-2]: tensor for name, tensor in streams.items() if name.endswith("q")}
    ivlp.load_prompt_state(deep)
    shared.load_prompt_state({f"{name}.q": tensor for name, tensor in deep.items()})
    for other in (ivlp, shared):
        torch.testing.assert_close(tied(images).logits, other(images).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("source", "update"), [("q", "replace"), ("mean", "replace"), ("none", "replace"), ("k", "carry")])
@pytest.mark.parametrize("depth", [1, 2, L])
def test_3_dead_queries_have_no_effect_and_exactly_zero_gradients(small_clip, images, depth, source, update):
    model = model_of(small_clip, rpp(depth, residual_source=source, prompt_update=update))
    grads, before = gradients(model, images), model(images).logits
    dead = [name for name, g in grads.items() if not g.any()]
    if update == "carry":
        expected = [L - 1] if depth == L else []
    elif source == "none":
        expected = list(range(L)) if depth == L else []
    else:
        expected = [j for j in range(depth) if j < depth - 1 or depth == L]
    assert sorted(dead) == sorted(f"{tower}_ctx.{j}.q" for tower in ("text", "image") for j in expected)
    numbers = {name: p.numel() for name, p in model.learner.named_parameters()}
    assert model.learner.effective_parameters() == sum(numbers.values()) - sum(numbers[name] for name in dead)
    with torch.no_grad():
        for name in dead:
            model.learner.get_parameter(name).add_(1.0)
    torch.testing.assert_close(model(images).logits, before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depth", [2, L])
def test_4_the_residual_matters_behind_the_last_prompted_block_alone(small_clip, images, depth):
    sources = ["q", "k", "v", "mean", "none"]
    results = [model_of(small_clip, rpp(depth, residual_source=source))(images) for source in sources]
    for a, b in itertools.combinations(results, 2):
        for x, y in ((a.text_features, b.text_features), (a.image_features, b.image_features)):
            assert torch.allclose(x, y, rtol=1e-5, atol=1e-5) == (depth == L)


@pytest.mark.parametrize("off", [{"n_image": 0}, {"depth_image": 0}, {"n_text": 0}, {"depth_text": 0}])
def test_5_a_tower_without_prompts_is_clips_own(small_clip, images, off):
    out, plain = (model_of(small_clip, learner)(images) for learner in (rpp(**off), ZeroShot("single")))
    text = any("text" in key for key in off)
    assert torch.equal(out.image_features, plain.image_features) != text
    assert torch.equal(F.normalize(out.text_features, dim=-1), plain.text_features) == text


def test_6_starting_from_words_is_zero_shot(small_clip, images):
    torch.manual_seed(0)
    model = PromptedCLIP(small_clip, rpp(n_text=4, n_image=0, depth_text=1, init="a photo of a"))
    model.setup(TrainInfo(NAMES, 0))
    logits = model_of(small_clip, ZeroShot("single"))(images).logits
    torch.testing.assert_close(model(images).logits, logits, rtol=1e-5, atol=1e-5)


def test_7_a_class_sees_no_other_class(small_clip, images):
    model = model_of(small_clip, rpp())
    whole = model(images).text_features
    for chosen in (["cat", "a quite different name"], ["cat"], NAMES[::-1]):
        model.bind(chosen)
        torch.testing.assert_close(model(images).text_features[chosen.index("cat")], whole[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("share", "streams"), [("shared", 1), ("unshared", 3), ("kv_only", 2)])
def test_9_parameters_and_nothing_else_moves(small_clip, images, share, streams):
    model = model_of(small_clip, rpp(2, qkv_share=share, n_text=3, depth_text=1, distillation={"teacher": lambda: small_clip}))
    before = {k: v.clone() for k, v in small_clip.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == streams * (3 * 1 * small_clip.text_width + N * 2 * small_clip.image_width)
    optimiser = torch.optim.SGD(trained, lr=0.1)
    sum(x.mean() for x in model.losses(model(images), LABELS, INDEX).values()).backward()
    optimiser.step()
    assert all(torch.equal(v, before[k]) for k, v in small_clip.state_dict().items())


def test_9_the_size_of_the_published_setting():
    """3 n J (d_v + d_t) with n=4, J=9: spec of the method, ViT-B/16."""
    b16 = FrozenCLIP.__new__(FrozenCLIP)
    nn.Module.__init__(b16)
    b16.text_blocks = b16.image_blocks = 12
    b16.text_width, b16.image_width = 512, 768
    learner = RPP()
    learner.setup(b16, TrainInfo(NAMES, 0))
    assert sum(p.numel() for p in learner.parameters()) == 138_240
    assert learner.effective_parameters() == 138_240 - 8 * 4 * (512 + 768)
