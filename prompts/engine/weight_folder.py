"""The files of a folder of CLIP weights, by open_clip's names. Imports nothing, as `runs.identity` uses it without torch."""

CONFIG = "open_clip_config.json"
WEIGHTS = (  # the first one that exists is read
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
