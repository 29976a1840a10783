"""A CLIP's tensors in the layouts of others, written by hand from open_clip's, and a small SigLIP with timm's image tower."""

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SIGLIP_SIZE = (96, 3, 2, 200)  # width, blocks, heads, width of the MLP
SIGLIP_TOWER = "vit_small_patch8_siglip_16"
SIGLIP_TEXT = {"hidden_size": 96, "intermediate_size": 250, "num_hidden_layers": 2, "num_attention_heads": 4}
SIGLIP_TEXT |= {"vocab_size": 100, "max_position_embeddings": 12, "projection_size": 96}
SIGLIP_VISION = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 200}
SIGLIP_VISION |= {"image_size": 16, "patch_size": 8}
CLIP_TEXT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
CLIP_TEXT |= {"max_position_embeddings": 28, "vocab_size": 49408, "eos_token_id": 49407}
CLIP_VISION = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 2}
CLIP_VISION |= {"image_size": 16, "patch_size": 8}


def small_siglip_tower(pretrained=False, **kwargs):
    """As timm's own, but small."""
    width, depth, heads, hidden = SIGLIP_SIZE
    sizes = {
        "img_size": 16,
        "patch_size": 8,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": hidden / width,
    }
    kwargs = {key: value for key, value in kwargs.items() if key in ("num_classes", "global_pool")}
    return VisionTransformer(**sizes, class_token=False, **{"global_pool": "map", "num_classes": 0} | kwargs)


def register_small_siglip(monkeypatch):
    """timm has the small tower among its models, and `transformers_config` knows its size."""
    from prompts.engine import transformers_config

    monkeypatch.setitem(transformers_config.SIGLIP_SIZES, SIGLIP_SIZE, "small")
    known, make = timm.is_model, timm.create_model
    create = lambda name, **given: small_siglip_tower(**given) if name == SIGLIP_TOWER else make(name, **given)  # noqa: E731
    monkeypatch.setattr(timm, "is_model", lambda name: name == SIGLIP_TOWER or known(name))
    monkeypatch.setattr(timm, "create_model", create)


def siglip_config():
    return {"model_type": "siglip", "text_config": dict(SIGLIP_TEXT), "vision_config": dict(SIGLIP_VISION)}


def clip_config(**changes):
    text, vision = dict(CLIP_TEXT), dict(CLIP_VISION)
    return {"model_type": "clip", "text_config": text, "vision_config": vision, "projection_dim": 32} | changes


def randomised(model: nn.Module) -> nn.Module:
    """The model with other numbers in every tensor, so that no two can be taken for each other."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 5)
    return model.eval()


def _thirds(out, prefix, joined, kind):
    for part, tensor in zip("qkv", joined.chunk(3), strict=True):
        out[f"{prefix}{part}_proj.{kind}"] = tensor.clone()


def _block(out, prefix, state, names):
    """One block: `names` maps its parts to transformers' names."""
    for (theirs, ours), kind in ((pair, kind) for pair in names.items() for kind in ("weight", "bias")):
        if ours == "in":
            _thirds(out, prefix + "self_attn.", state[f"{theirs}{kind}"], kind)
        else:
            out[f"{prefix}{ours}.{kind}"] = state[f"{theirs}.{kind}"]


def _inside(state, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


OPEN_CLIP = {"attn.in_proj_": "in", "attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
OPEN_CLIP |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
TIMM = {"attn.qkv.": "in", "attn.proj": "self_attn.out_proj", "norm1": "layer_norm1", "norm2": "layer_norm2"}
TIMM |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


def _text(state, out):
    out["text_model.embeddings.token_embedding.weight"] = state["token_embedding.weight"]
    out["text_model.embeddings.position_embedding.weight"] = state["positional_embedding"]
    for kind in ("weight", "bias"):
        out[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
    for i in range(1 + max(int(name.split(".")[2]) for name in state if name.startswith("transformer."))):
        _block(out, f"text_model.encoder.layers.{i}.", _inside(state, f"transformer.resblocks.{i}."), OPEN_CLIP)


def clip_as_transformers(state):
    """CLIPModel's state dict from that of open_clip's CLIP."""
    out = {"logit_scale": state["logit_scale"], "text_projection.weight": state["text_projection"].T.contiguous()}
    out["visual_projection.weight"] = state["visual.proj"].T.contiguous()
    _text(state, out)
    visual, prefix = _inside(state, "visual."), "vision_model."
    out[f"{prefix}embeddings.class_embedding"] = visual["class_embedding"]
    out[f"{prefix}embeddings.patch_embedding.weight"] = visual["conv1.weight"]
    out[f"{prefix}embeddings.position_embedding.weight"] = visual["positional_embedding"]
    out[f"{prefix}embeddings.position_ids"] = torch.arange(len(visual["positional_embedding"]))[None]  # of older files
    for kind in ("weight", "bias"):
        out[f"{prefix}pre_layrnorm.{kind}"] = visual[f"ln_pre.{kind}"]
        out[f"{prefix}post_layernorm.{kind}"] = visual[f"ln_post.{kind}"]
    for i in range(3):
        _block(out, f"{prefix}encoder.layers.{i}.", _inside(visual, f"transformer.resblocks.{i}."), OPEN_CLIP)
    return out


def siglip_as_transformers(state):
    """SiglipModel's state dict from that of open_clip's CustomTextCLIP with an image tower of timm's."""
    out = {"logit_scale": state["logit_scale"].reshape(1), "logit_bias": state["logit_bias"].reshape(1)}
    text, trunk, prefix = _inside(state, "text."), _inside(state, "visual.trunk."), "vision_model."
    _text(text, out)
    out[f"{prefix}embeddings.position_embedding.weight"] = trunk["pos_embed"][0].clone()
    out[f"{prefix}head.probe"] = trunk["attn_pool.latent"]
    renamed = {"patch_embed.proj": "embeddings.patch_embedding", "norm": "post_layernorm", "attn_pool.norm": "head.layernorm"}
    renamed |= {
        "attn_pool.proj": "head.attention.out_proj",
        "attn_pool.mlp.fc1": "head.mlp.fc1",
        "attn_pool.mlp.fc2": "head.mlp.fc2",
    }
    for kind in ("weight", "bias"):
        out[f"text_model.head.{kind}"] = text[f"text_projection.{kind}"]
        out |= {f"{prefix}{ours}.{kind}": trunk[f"{theirs}.{kind}"] for theirs, ours in renamed.items()}
        joined = torch.cat([trunk[f"attn_pool.q.{kind}"], trunk[f"attn_pool.kv.{kind}"]])
        out[f"{prefix}head.attention.in_proj_{kind}"] = joined
    for i in range(SIGLIP_SIZE[1]):
        _block(out, f"{prefix}encoder.layers.{i}.", _inside(trunk, f"blocks.{i}."), TIMM)
    return out
