"""A training transform for small pictures, for which the published crop (8-100% of the area) and flip are too strong."""

from collections.abc import Sequence

from torchvision import transforms as T

from datamodules.transforms import Augment, Prepared, to_rgb


def shift_transform(size: int, mean: Sequence[float], std: Sequence[float], augment: Augment | None = None) -> Prepared:
    """Moves the picture by up to a sixteenth of its side, edges repeated, then `augment`; (3, size, size) float32."""
    shift = T.RandomCrop(size, padding=size // 16, padding_mode="edge")
    more = [augment] if augment else []
    return Prepared([to_rgb, T.Resize((size, size)), shift, *more], mean, std)
