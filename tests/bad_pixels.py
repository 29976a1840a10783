"""Wrong values of keys of segmentation and of the schedule by steps, in the form of `VALUES` in tests/bad_inputs.py."""

PIXELS = """
schedule: linear 5 null
poly: 5 null
poly.power: abc null
poly.warmup: 1.5 abc
poly.min_lr: abc
poly.warmup_ratio: abc
+poly.foo: 1 | poly.foo
schedule=poly poly.power: 0 -1 | poly.power
schedule=poly poly.warmup: -1 | poly.warmup
schedule=poly poly.min_lr: -1 | poly.min_lr
schedule=poly poly.warmup_ratio: 2 | poly.warmup_ratio
multistep: 5
multistep.factor: abc
+multistep.foo: 1 | multistep.foo
schedule=multistep multistep.at: [0.9,0.5] | multistep.at
data=scenes_masks recipe=none method: coop | task=segmentation needs pixel logits
method=denseclip recipe=none data: shapes | task=classification needs class logits
data=scenes_masks method=denseclip task.module.window: 1.5 abc
data=scenes_masks method=denseclip task.module.window: 512 | give both in pixels
data=scenes_masks method=denseclip task.module.window=4 task.module.stride: 5 0 | task.module.stride
data=scenes_masks method=denseclip task.module.ratios: abc [a]
data=scenes_masks method=denseclip task.module.ratios: [] [0.01] [1.0,1.0] | task.module.ratios
data=scenes_masks method=denseclip task.module.flip: 5 abc
data=scenes_masks method=denseclip protocol: base_to_new | subset=base
"""
