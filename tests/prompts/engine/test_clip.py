"""The frozen CLIP against open_clip's own, and the architectures that it takes."""

import open_clip
import pytest
import torch
from sizes import RESNET, SMALL

from prompts.engine.clip import FrozenCLIP, build
from prompts.engine.rows import Rows, TowerPrompts
from prompts.parts.context import fixed_plan

NAMES = ["cat", "golden retriever", "2012 Acura TL Sedan"]


@pytest.mark.parametrize("config", [SMALL, SMALL | {"quick_gelu": False}, RESNET], ids=["vit", "gelu", "resnet"])
def test_without_prompts_it_is_open_clip(config):
    model = build(config)
    clip = FrozenCLIP(model)
    size = config["vision_cfg"]["image_size"]
    images = torch.randn(3, 3, size, size)
    torch.testing.assert_close(clip.encode_image(images), model.encode_image(images), rtol=1e-4, atol=1e-5)
    tokens = clip.tokenizer([f"a photo of a {name}." for name in NAMES])
    ours = clip.encode_text(fixed_plan(clip, NAMES, "a photo of a {}."))
    torch.testing.assert_close(ours, model.encode_text(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("ViT-B-32-quickgelu", (512, 768, 512, 12, 12, 224)),
        ("ViT-B-16-quickgelu", (512, 768, 512, 12, 12, 224)),
        ("ViT-L-14-quickgelu", (768, 1024, 768, 24, 12, 224)),
        ("RN50-quickgelu", (1024, None, 512, 0, 12, 224)),
    ],
)
def test_dimensions_come_from_the_model(name, widths):
    with torch.device("meta"):
        clip = FrozenCLIP(build(open_clip.get_model_config(name), empty=True))
    assert clip.is_vit == name.startswith("ViT")
    actual = (clip.embed_dim, clip.image_width, clip.text_width, clip.image_blocks, clip.text_blocks, clip.image_spec["size"])
    assert actual == widths


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text_cfg": SMALL["text_cfg"] | {"pool_type": "none"}}, "ends without a feature"),
        ({"text_cfg": SMALL["text_cfg"] | {"qk_norm": True}}, "blocks are not CLIP's residual attention blocks"),
        (
            {"text_cfg": SMALL["text_cfg"] | {"pool_type": "eos", "eos_id": 3}},
            "reads its feature at token 3, which is not what",
        ),
    ],
)
def test_other_architectures_are_refused(change, reason):
    with pytest.raises(ValueError, match=f"cannot take prompts here: .*{reason}"):
        FrozenCLIP(build(SMALL | change))


def test_stored_in_bf16_it_stays_close(small_clip):
    exact, rounded = FrozenCLIP(build(SMALL)), FrozenCLIP(build(SMALL))
    rounded.store_bf16()
    float32 = {k for k, v in rounded.model.state_dict().items() if v.dtype == torch.float32}
    assert {"visual.ln_post.weight", "text_projection", "visual.proj", "positional_embedding"} <= float32
    assert not any("resblocks" in k and k.endswith(("proj_weight", "c_fc.weight", "out_proj.weight")) for k in float32)
    images, ctx = torch.randn(2, 3, 16, 16), TowerPrompts(Rows(torch.randn(2, 96)))
    features = [clip.encode_image(images, ctx) for clip in (exact, rounded)]
    torch.testing.assert_close(*features, rtol=0.1, atol=0.05)
    texts = [clip.encode_text(fixed_plan(clip, NAMES, "a {}.")) for clip in (exact, rounded)]
    torch.testing.assert_close(*texts, rtol=0.1, atol=0.05)
    assert features[1].dtype == texts[1].dtype == torch.float32


def test_visual_prompts_on_a_resnet(resnet_clip):
    with pytest.raises(ValueError, match="is a ResNet: use a ViT"):
        resnet_clip.encode_image(torch.randn(1, 3, 32, 32), TowerPrompts(Rows(torch.randn(2, 8))))
