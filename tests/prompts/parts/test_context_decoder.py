"""DenseCLIP's context decoder is the one that its authors released, written out a second time."""

import pytest
import torch
from plain_layers import attention, gelu, layer_norm, linear, randomise

from prompts.parts.context_decoder import ContextDecoder

HEADS, LAYERS = 2, 3


class Marked:
    """In the place of random numbers: doubles what it is given, and keeps its shapes and rates."""

    def __init__(self):
        self.seen = []

    def dropout(self, x, rate):
        self.seen.append((tuple(x.shape), rate))
        return 2 * x


def plain(queries, memory, state, dropped=1):
    """For one image: (N,queries) with (M,memory). What dropout reads is multiplied by `dropped`."""
    memory = layer_norm(linear(layer_norm(memory, state, "memory_proj.0"), state, "memory_proj.1"), state, "memory_proj.2")
    x = linear(layer_norm(queries, state, "text_proj.0"), state, "text_proj.1")
    for layer in (f"decoder.{i}" for i in range(LAYERS)):
        normed = layer_norm(x, state, f"{layer}.norm1")
        x = x + dropped * attention(normed, normed, state, f"{layer}.self_attn", HEADS)
        x = x + dropped * attention(layer_norm(x, state, f"{layer}.norm2"), memory, state, f"{layer}.cross_attn", HEADS)
        hidden = dropped * gelu(linear(layer_norm(x, state, f"{layer}.norm3"), state, f"{layer}.mlp.0"))
        x = x + dropped * linear(hidden, state, f"{layer}.mlp.1")
    return linear(layer_norm(x, state, "out_proj.0"), state, "out_proj.1")


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_released_decoder(training):
    decoder = randomise(ContextDecoder(6, 10, 7, width=8, heads=HEADS, layers=LAYERS, dropout=0.1))
    state = decoder.state_dict()
    queries, memory, draws = torch.randn(2, 5, 6), 3 * torch.randn(2, 9, 10), Marked()
    found = decoder(queries, memory, draws if training else None)
    expected = [plain(q, m, state, 2 if training else 1) for q, m in zip(queries, memory, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
    of_layer = [((2, 5, 8), 0.1), ((2, 5, 8), 0.1), ((2, 5, 32), 0.1), ((2, 5, 8), 0.1)]
    assert draws.seen == (of_layer * LAYERS if training else [])


def test_its_layers_start_as_released():
    """Weights from a normal distribution of deviation 0.02, cut at 2; no bias in the projections of attention."""
    state = ContextDecoder(64, 48, 64).state_dict()
    assert not any(name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")) for name in state)
    assert state["decoder.2.mlp.0.weight"].shape == (1024, 256)
    assert "decoder.3.mlp.0.weight" not in state
    for name, tensor in state.items():
        if tensor.ndim == 2:
            assert tensor.std() == pytest.approx(0.02, rel=0.03), name
        else:
            assert (tensor == float("norm" in name or name in LAYER_NORMS)).all() or name.endswith("bias"), name
        assert not name.endswith("bias") or not tensor.any()


LAYER_NORMS = {"memory_proj.0.weight", "memory_proj.2.weight", "text_proj.0.weight", "out_proj.0.weight"}
