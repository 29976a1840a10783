"""Wrong values of keys of images with label maps, in the form of `VALUES` in tests/bad_inputs.py."""

MASKS = """
data=scenes_masks method=denseclip data.crop: 0 abc [64] [64,0] | data.crop
data=scenes_masks method=denseclip data.scale: 64 [64] | data.scale
data=scenes_masks method=denseclip data.ratio: 2 [2,0.5] [0,1] | data.ratio
data=scenes_masks method=denseclip data.cat_max_ratio: 0 null nan | data.cat_max_ratio
data=scenes_masks method=denseclip data.photometric: 5
data=scenes_masks method=denseclip protocol.train: base | gives each pixel one of all its classes
data=scenes_masks method=denseclip shots: 601 | has 600 training images
data=scenes_masks method=denseclip task: classification | task=classification needs class logits
data=ade20k method=denseclip data_root: nowhere | the dataset's folder is missing
data=ade20k method=denseclip data.source.disk.held_out: -1 abc | held_out=
data=voc2012 method=denseclip data.source.disk.masks: [] | masks names no folder of label maps
data=masks_folder method=denseclip folder: nowhere | nowhere
data=masks_folder method=denseclip data.source.reduce_zero_label: 5
"""
