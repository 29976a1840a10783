"""AAPE's aggregator; T-numbers are those of the test list in its spec, section 10."""

import pytest
import torch
import torch.nn.functional as F

from prompts.parts.aape_aggregator import PromptAggregator, ReferenceBank, clip_reward

D, IMAGES, CLASSES = 32, 6, 3
LEARNED = ["per_image", "per_class", "shared", "image_conditioned"]


def bank(counts=(4, 2, 5), seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    emb = torch.randn(*mask.shape, D, generator=generator) * mask[..., None]
    return ReferenceBank(emb, mask, **options)


def aggregator(kind="attention", heads=4, **options):
    """With random queries and weights, unless init is given."""
    torch.manual_seed(1)
    built = PromptAggregator(D, IMAGES, CLASSES, kind, heads=heads, **{"init": "default"} | options)
    if "init" not in options and kind in ("attention", "weights") and built.query != "mean":
        for p in built.delta.parameters() if isinstance(built.delta, torch.nn.Module) else [built.delta]:
            torch.nn.init.normal_(p)
    return built


def images(n=IMAGES):
    return F.normalize(torch.randn(n, D, generator=torch.Generator().manual_seed(2)), dim=-1)


LABELS, INDEX = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("keys", ["query_and_prompts", "prompts"])
def test_t1_the_order_of_prompts_is_nothing(norm, keys):
    layer = aggregator(norm=norm, keys=keys).layer
    prompts, mask, mean = bank((5, 5))(torch.tensor([0, 1]))
    order = torch.tensor([3, 1, 4, 0, 2])
    (whole, weights), (moved, permuted) = layer(mean, prompts, mask), layer(mean, prompts[:, order], mask)
    torch.testing.assert_close(whole, moved)
    first = int(keys == "query_and_prompts")
    torch.testing.assert_close(weights[:, first:][:, order], permuted[:, first:])
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


def test_t2_masked_rows_change_nothing_and_one_prompt_is_enough():
    built = aggregator()
    short, mask, mean = bank((4, 1))(torch.tensor([0, 1]))
    padded, wide = torch.cat([short, torch.randn(2, 3, D)], 1), F.pad(mask, (0, 3))
    torch.testing.assert_close(built.layer(mean, short, mask)[0], built.layer(mean, padded, wide)[0])
    assert built.layer(mean, padded, wide)[1][1, 2:].eq(0).all()
    assert not torch.equal(padded[:, 4:], torch.zeros(2, 3, D))
    with pytest.raises(ValueError, match=r"classes \[1\] have no reference prompt"):
        ReferenceBank(torch.randn(2, 3, D), torch.tensor([[True] * 3, [False] * 3]))


def test_t3_one_query_is_the_first_row_of_full_self_attention():
    layer = aggregator().layer
    prompts, mask, mean = bank((4, 4))(torch.tensor([0, 1]))
    tokens = torch.cat([mean[:, None], prompts], 1)
    normed = layer.norm1(tokens)
    y = tokens + layer.attn(normed, normed, normed)[0]
    y = y + layer.ffn(layer.norm2(y))
    torch.testing.assert_close(layer(mean, prompts, mask)[0], y[:, 0])


@pytest.mark.parametrize("query", [*LEARNED, "mean"])
def test_t4_the_summary_starts_as_the_mean_prompt(query):
    built, prompts = aggregator(query=query, init="zero"), bank()
    mean = torch.stack([emb[mask].mean(0) for emb, mask in zip(prompts.emb, prompts.mask, strict=True)])[LABELS]
    torch.testing.assert_close(built(prompts, LABELS, INDEX, images()), mean)
    torch.testing.assert_close(aggregator("mean")(prompts, LABELS, INDEX, images()), mean)
    raw = bank(unit=False)
    assert not torch.allclose(raw.emb.norm(dim=-1)[raw.mask], torch.ones(11))
    torch.testing.assert_close(prompts.emb.norm(dim=-1)[prompts.mask], torch.ones(11))


def test_t4_random_takes_one_of_the_prompts():
    built, prompts = aggregator("random"), bank()
    for draw in (0.0, 0.5, 0.9999):
        taken = built(prompts, LABELS, INDEX, images(), torch.full((6,), draw))
        for row, label in zip(taken, LABELS, strict=True):
            class_prompts = prompts.emb[label][prompts.mask[label]]
            assert torch.equal(row, class_prompts[int(draw * len(class_prompts))])


def test_t5_mlp_mixes_the_mean_and_its_image():
    built, prompts = aggregator("mlp"), bank()
    mean = prompts.mean[LABELS]
    for alpha, wanted in ((0.0, mean), (1.0, built.layer.f(mean))):
        built.layer.alpha.data.fill_(alpha)
        torch.testing.assert_close(built(prompts, LABELS, INDEX, images()), wanted)
    built.layer.alpha.data.fill_(0.5)
    clip_reward(images(), built(prompts, LABELS, INDEX, images()), 2.5).sum().backward()
    assert built.layer.alpha.grad.abs() > 1e-4


def test_t6_reward():
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    p = torch.tensor([[4.0, 3.0], [-2.0, 0.1], [5.0, 5.0]], requires_grad=True)
    reward = clip_reward(x, p, 2.5)
    torch.testing.assert_close(reward, 2.5 * torch.tensor([0.96, 0.0, 1.0]))
    torch.testing.assert_close(clip_reward(7 * x, 0.1 * p, 2.5), reward)
    reward.sum().backward()
    assert not p.grad[1].any()
    assert p.grad[0].any()
    assert clip_reward(images(), images().flip(0), 2.5).max() <= 2.5


@pytest.mark.parametrize("bypass", [True, False])
def test_t7_the_reward_finds_the_prompt_that_fits_the_image(bypass):
    """A whole layer comes close to the image without looking for its prompt, by its biases and its query. What the attention
    does shows where values are the prompts themselves and nothing follows."""
    generator = torch.Generator().manual_seed(5)
    x = F.normalize(torch.randn(1, D, generator=generator), dim=-1)
    others = F.normalize(torch.randn(4, D, generator=generator), dim=-1)
    others = others - others @ x.T * x  # nothing of the image is in them
    prompts = ReferenceBank(torch.cat([others[:2], x, others[2:]])[None], torch.ones(1, 5, dtype=torch.bool))
    torch.manual_seed(0)
    built = PromptAggregator(D, 1, 1, heads=4, carry="query" if bypass else "mean")
    learned = list(built.parameters())
    if not bypass:
        attn = built.layer.attn
        with torch.no_grad():
            attn.in_proj_weight[2 * D :] = torch.eye(D)
            attn.out_proj.weight.copy_(torch.eye(D))
        attn.in_proj_weight.register_hook(lambda grad: grad * (torch.arange(3 * D) < 2 * D)[:, None])
        learned = [built.delta, attn.in_proj_weight]
    optimizer, zero = torch.optim.Adam(learned, lr=3e-3), torch.tensor([0])

    def attention():
        return built.attend(*prompts(zero), zero, zero, x)[1][0, 1:].detach()

    before = attention()
    for _ in range(100):
        optimizer.zero_grad()
        (-clip_reward(x, built(prompts, zero, zero, x), 2.5)).sum().backward()
        optimizer.step()
    assert F.cosine_similarity(built(prompts, zero, zero, x), x) > F.cosine_similarity(prompts.mean, x) + 0.2
    if not bypass:
        after = attention()
        assert after.argmax() == 2
        assert after[2] > 0.5
        assert (after < before)[[0, 1, 3, 4]].all()


@pytest.mark.parametrize("query", [*LEARNED, "mean"])
def test_t8_whose_summary_differs_between_images_of_a_class(query):
    summary = aggregator(query=query)(bank(), LABELS, INDEX, images())
    differ = [not torch.allclose(summary[i], summary[i + 1]) for i in (0, 2, 4)]
    assert all(differ) if query in ("per_image", "image_conditioned") else not any(differ)


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="method.aggregator.query='text' is none of per_image, per_class"):
        PromptAggregator(D, 1, 1, query="text")
    with pytest.raises(ValueError, match="heads=5 does not divide the 32"):
        PromptAggregator(D, 1, 1, heads=5)


# ---------------------------------------------------------------- weights: the attention alone


@pytest.mark.parametrize("heads", [1, 4])
def test_weights_make_a_mean_of_the_prompts_themselves(heads):
    built, (prompts, mask, mean) = aggregator("weights", heads=heads), bank()(LABELS)
    summary, weights = built.attend(prompts, mask, mean, LABELS, INDEX, images())
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    assert not weights[~mask].any()
    assert weights[0].std() > 1e-3
    torch.testing.assert_close(summary, torch.stack([w @ p for w, p in zip(weights, prompts, strict=True)]))
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(built.layer(mean, prompts[:, order], mask[:, order])[0], built.layer(mean, prompts, mask)[0])
    assert not torch.allclose(summary[0], summary[1])  # two images of one class, each with a query of its own


@pytest.mark.parametrize("query", [*LEARNED, "mean"])
def test_weights_start_equal(query):
    built, prompts = aggregator("weights", query=query, init="zero"), bank()
    torch.testing.assert_close(built(prompts, LABELS, INDEX, images()), prompts.mean[LABELS])


def test_weights_learn_to_take_the_prompt_that_fits_the_image():
    """What a whole attention layer reaches without looking for its prompt (T7), these weights cannot."""
    x = images(1)
    others = F.normalize(torch.randn(4, D, generator=torch.Generator().manual_seed(6)), dim=-1)
    others = others - others @ x.T * x  # nothing of the image is in them
    prompts = ReferenceBank(torch.cat([others[:2], x, others[2:]])[None], torch.ones(1, 5, dtype=torch.bool))
    torch.manual_seed(0)
    built, zero = PromptAggregator(D, 1, 1, "weights", heads=4), torch.tensor([0])
    optimizer = torch.optim.Adam(built.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        (-clip_reward(x, built(prompts, zero, zero, x), 2.5)).sum().backward()
        optimizer.step()
    weights = built.attend(*prompts(zero), zero, zero, x)[1][0]
    assert weights.argmax() == 2
    assert weights[2] > 0.5
