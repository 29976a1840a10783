"""The type of other packages' modules: `nn.Module` says of each of a module's parts only that it is a tensor or a module."""

from typing import Any

AnyModule = Any  # an nn.Module of open_clip, timm or transformers
