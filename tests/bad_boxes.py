"""Wrong values of detection's keys, in the form of `VALUES` in tests/bad_inputs.py."""

BOXES = """
data=scenes_boxes method=denseclip_retinanet data.shorter: 0 65 | data.shorter
data=scenes_boxes method=denseclip_retinanet data.flip: 2 | data.flip
data=scenes_boxes method=denseclip_retinanet method.levels: [4] [1,0] | method.levels
data=scenes_boxes method=denseclip_retinanet method.detector: yolo | method.detector
data=scenes_boxes method=denseclip_retinanet method.head_norm: layer | method.head_norm
data=scenes_boxes method=denseclip_maskrcnn method.sampled: [1,2] | method.sampled
"""
