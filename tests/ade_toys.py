"""Files as ADE20K has them, whose pixels tell their class by their brightness, and a small run on them."""

import numpy as np
import PIL.Image

CLASSES = [0, 1, 2, 150]  # of the files: 0 is none
ADE = [
    "data=ade20k",
    "data.crop=32",
    "data.scale=[64,32]",
    "clip=toy",
    "method=denseclip",
    "recipe=none",
    "method.channels=8",
    "method.decoder_width=8",
    "method.decoder_heads=2",
    "method.decoder_layers=1",
    "method.n_ctx=2",
    "optim.lr=0.01",
    "schedule=poly",
    "poly.warmup=2",
    "batch_size=3",
    "epochs=2",
    "trainer.log_every_n_steps=1",
]
SGD = ["optim=sgd", "optim.lr=1"]


def put_ade_toys(root):
    """ROOT/ADEChallengeData2016 with six training and five validation images of several sizes; the folder."""
    generator = np.random.default_rng(0)
    folder = root / "ADEChallengeData2016"
    for split, short, count in (("training", "train", 6), ("validation", "val", 5)):
        for number in range(1, count + 1):
            height, width = generator.integers(5, 8, 2)
            ids = generator.integers(0, len(CLASSES), (height, width)).repeat(7, 0).repeat(7, 1)
            bright = (60 * ids)[..., None] + generator.integers(0, 40, (*ids.shape, 3))
            for kind, content, suffix in (("images", bright, "jpg"), ("annotations", np.array(CLASSES)[ids], "png")):
                path = folder / f"{kind}/{split}/ADE_{short}_{number:08d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(content.astype(np.uint8)).save(path)
    return folder
