"""Dense features equal open_clip's own at the native size, and exist at others."""

import pytest
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from small_models import small_clip, small_config

from prompts.engine.dense import pooled_everywhere, resized
from prompts.engine.rows import Rows, TowerPrompts

VITS = ["ViT-B-32", "coca_ViT-B-32", "EVA02-B-16", "ViT-B-16-SigLIP2", "ViTamin-B", "MobileCLIP-B"]
OTHERS = ["RN50", "convnext_base", "MobileCLIP-S1"]


def images_of(name, height=1, width=1):
    side = small_config(name)[0]["vision_cfg"]["image_size"]
    return torch.randn(2, 3, height * side, width * side)


@pytest.mark.parametrize("name", VITS + OTHERS)
def test_at_the_native_size_it_is_open_clip(name):
    clip, images = small_clip(name), images_of(name)
    count = clip.image_blocks or 4
    with torch.no_grad():
        dense = clip.encode_dense(images, blocks=range(count))
        first = 1 if name == "RN50" else 0  # open_clip counts the stem of a ResNet
        theirs = clip.model.visual.forward_intermediates(images, indices=[i + first for i in range(count)])
        torch.testing.assert_close(dense.pooled, clip.encode_image(images), rtol=1e-5, atol=1e-5)
    for i, expected in enumerate(theirs["image_intermediates"]):
        assert expected.std() > 0.01
        torch.testing.assert_close(dense.maps[i], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ViT-B-32", "EVA02-B-16"])
def test_a_row_in_the_joint_space_is_what_pooling_would_give(name):
    clip, images = small_clip(name), images_of(name)
    visual = clip.model.visual
    with torch.no_grad():
        dense = clip.encode_dense(images, [-1])
        rows = dense.maps[-1].flatten(2).transpose(1, 2)
        if name == "ViT-B-32":
            expected = visual.ln_post(rows) @ visual.proj
        else:
            normed = visual.trunk.norm(rows)  # the pooling reads the first row of what it gets
            expected = visual.head(torch.stack([visual.trunk.forward_head(normed[:, i:]) for i in range(rows.shape[1])], 1))
    torch.testing.assert_close(dense.projected.flatten(2).transpose(1, 2), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", VITS + OTHERS)
def test_images_of_other_shapes_have_maps_of_their_shape(name):
    clip = small_clip(name)
    with torch.no_grad():
        native, wide = clip.encode_dense(images_of(name), [-1]), clip.encode_dense(images_of(name, 2, 3), [-1])
    (h, w), shape = native.maps[-1].shape[-2:], wide.maps[-1].shape
    assert shape[-2:] == (2 * h, 3 * w)
    assert wide.pooled.shape == native.pooled.shape
    assert wide.projected is None or wide.projected.shape[-2:] == shape[-2:]


def test_positions_are_resized_as_open_clip_loads_them():
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed

    state = {"visual.positional_embedding": torch.randn(17, 8)}
    before = state["visual.positional_embedding"]
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=(6, 3))))
    torch.testing.assert_close(resized(before, (4, 4), (6, 3)), state["visual.positional_embedding"])
    assert resized(before, (4, 4), (4, 4)) is before


def test_attention_pooling_of_a_resnet_reads_every_position():
    pool = small_clip("RN50").model.visual.attnpool
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    x = torch.randn(2, pool.k_proj.in_features, side, side)
    with torch.no_grad():
        rows = pooled_everywhere(pool, x)
        torch.testing.assert_close(rows[:, 0], pool(x), rtol=1e-5, atol=1e-5)
        wide = pooled_everywhere(pool, F.interpolate(x, (3, 5)))
    assert rows.shape[1] == 1 + side**2
    assert wide.shape[1] == 16


@torch.no_grad()
def test_positions_of_attention_pooling_are_resized_bilinearly():
    """As DenseCLIP's released code has them, and then torch's own attention with every row as a query."""
    side = 4
    pool = AttentionPool2d(side, embed_dim=8, num_heads=2, output_dim=6)
    pool.positional_embedding.normal_()
    x = torch.randn(2, pool.k_proj.in_features, 3, 5)
    first, grid = pool.positional_embedding[:1], pool.positional_embedding[1:].T.unflatten(1, (side, side))
    grid = torch.stack([F.interpolate(channel[None, None], (3, 5), mode="bilinear")[0, 0] for channel in grid])
    rows = torch.cat([x.mean((2, 3))[:, None], x.flatten(2).transpose(1, 2)], 1) + torch.cat([first, grid.flatten(1).T])
    layers = [pool.q_proj, pool.k_proj, pool.v_proj]
    expected, _ = F.multi_head_attention_forward(
        *[rows.transpose(0, 1)] * 3,
        rows.shape[-1],
        pool.num_heads,
        None,
        torch.cat([layer.bias for layer in layers]),
        None,
        None,
        False,
        0.0,
        pool.c_proj.weight,
        pool.c_proj.bias,
        use_separate_proj_weight=True,
        **{f"{name}_proj_weight": layer.weight for name, layer in zip("qkv", layers, strict=True)},
    )
    torch.testing.assert_close(pooled_everywhere(pool, x), expected.transpose(0, 1), rtol=1e-4, atol=1e-5)


def test_maps_leave_prompts_out_and_depend_on_them():
    clip, images = small_clip("ViT-B-32"), images_of("ViT-B-32")
    prompts = TowerPrompts(Rows(torch.randn(3, clip.image_width)), {1: Rows(torch.randn(5, clip.image_width))})
    with torch.no_grad():
        plain, prompted = clip.encode_dense(images, [0, -1]), clip.encode_dense(images, [0, -1], prompts)
        torch.testing.assert_close(prompted.pooled, clip.encode_image(images, prompts), rtol=1e-5, atol=1e-5)
    assert prompted.maps[-1].shape == plain.maps[-1].shape
    assert not torch.allclose(prompted.maps[0], plain.maps[0])
    assert not torch.allclose(prompted.projected, plain.projected)


def test_wrong_blocks_sizes_and_prompts_are_refused():
    vit, resnet = small_clip("ViT-B-32"), small_clip("RN50")
    with pytest.raises(ValueError, match="none of the 3 blocks of this image tower, 0 to 2"):
        vit.encode_dense(images_of("ViT-B-32"), [3])
    with pytest.raises(ValueError, match="images of 20 x 16 pixels do not fit patches of 8 x 8"):
        vit.encode_dense(torch.randn(1, 3, 20, 16))
    with pytest.raises(ValueError, match="do not fit the stride of 32 x 32"):
        resnet.encode_dense(torch.randn(1, 3, 32, 40))
    with pytest.raises(ValueError, match="image tower is a ResNet: use a ViT"):
        resnet.encode_dense(images_of("RN50"), prompts=TowerPrompts(Rows(torch.randn(1, 8))))
