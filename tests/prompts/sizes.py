"""Small CLIPs whose two towers differ in all sizes, so that a test notices where one is taken for the other."""

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 3, "width": 96, "head_width": 48, "patch_size": 8, "image_size": 16},
    "text_cfg": {"layers": 3, "width": 64, "heads": 4, "context_length": 28},
    "quick_gelu": True,
}
RESNET = SMALL | {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "patch_size": None}}
