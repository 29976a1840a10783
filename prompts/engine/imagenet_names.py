"""The 1,000 class names of ImageNet that come with open_clip, by label. Imports torch, as open_clip does."""

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

__all__ = ["IMAGENET_CLASSNAMES"]
