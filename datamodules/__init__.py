"""What a run trains on and is evaluated on: sources of images, splits, few-shot selection, transforms, loaders.

`module.FewShotData` is the datamodule; a source (`items.Source`) reads one dataset. `shapes`, `shapes21k` and `digits` are the
embedded datasets, which need no file.
"""
