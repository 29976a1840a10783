"""AAPE's generator and heads; T-numbers are those of the test list in its spec, section 10."""

import pytest
import torch
import torch.nn.functional as F

from prompts.parts.aape_head import BottleneckHead, LinearHead, generator


def test_t11_parameter_counts():
    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(generator(512, 32, True)) == 33_312
    assert count(generator(512, 32, False)) == 32_768
    assert count(generator(512, 32, True), BottleneckHead(512, 32)) == 82_464
    assert count(generator(512, 32, False), BottleneckHead(512, 32)) == 81_920
    assert count(LinearHead(512)) == 524_288


def heads(d=16, hidden=4):
    torch.manual_seed(3)
    for bias in (False, True):
        for residual in (False, True):
            yield BottleneckHead(d, hidden, bias, residual).double()
            yield LinearHead(d, bias, residual).double()


def features(d=16, images=5, classes=7):
    torch.manual_seed(4)
    x, w = (F.normalize(torch.randn(n, d).double(), dim=-1) for n in (images, classes))
    return x, w, torch.randn(images, d).double()


@pytest.mark.parametrize("head", list(heads()), ids=lambda head: f"{type(head).__name__}-{head.residual}")
def test_t13_fast_cosines_are_those_of_the_whole_tensor(head):
    x, w, h = features()
    pairs = torch.cat([w.expand(5, 7, 16), h[:, None].expand(5, 7, 16)], -1)
    y = head.linear1(pairs).relu()  # as it is written in the paper
    y = head.linear2(y) if isinstance(head, BottleneckHead) else y
    y = y + w if head.residual else y
    torch.testing.assert_close(head(w, h), y, rtol=0, atol=1e-12)
    plain = F.cosine_similarity(x[:, None], y, dim=-1)
    fast = head.cosine(x, w, h)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-10)
    assert fast.abs().max() <= 1 + 1e-12
    order = torch.randperm(7)
    torch.testing.assert_close(head.cosine(x, w[order], h), fast[:, order])
    ours, theirs = (torch.autograd.grad(c.square().sum(), head.parameters(), retain_graph=True) for c in (fast, plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_t13_a_dead_row_is_no_nan():
    for head in (BottleneckHead(16, 4), LinearHead(16)):
        with torch.no_grad():
            head.linear1.weight.copy_(-head.linear1.weight.abs())
        x, w, h = (t.float() for t in features())
        cosine = head.cosine(x, w.abs(), h.abs())
        assert not cosine.any()
        cosine.sum().backward()
        assert all(p.grad.isfinite().all() for p in head.parameters())


def test_t12_without_the_relu_the_image_would_change_no_class():
    x, w, h = features()
    head = next(heads())

    def linear(h):
        return head.linear2(head.linear1(torch.cat([w.expand(5, 7, 16), h[:, None].expand(5, 7, 16)], -1)))

    def chosen(text_BCD):
        return torch.einsum("bd,bcd->bc", x, text_BCD).argmax(1)

    assert torch.equal(chosen(linear(h)), chosen(linear(9 * h)))
    assert not torch.equal(chosen(head(w, h)), chosen(head(w, 9 * h)))
