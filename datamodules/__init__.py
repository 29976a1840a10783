"""The data of a run: sources of images, splits, few-shot selection, transforms, loaders.

`module.FewShotData` is the datamodule; a source (`items.Source`) reads one dataset. `shapes`, `shapes21k` and `digits` are the
embedded datasets, which need no file.
"""
