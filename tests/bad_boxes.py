"""Wrong values of detection's keys, in the form of `VALUES` in tests/bad_inputs.py."""

BOXES = """
data=scenes_boxes method=denseclip_retinanet data.shorter: 0 abc 65 | data.shorter
data=scenes_boxes method=denseclip_retinanet data.flip: -1 2 abc | data.flip
data=scenes_boxes method=denseclip_retinanet method.levels: [] [4] [1,0] | method.levels
data=scenes_boxes method=denseclip_retinanet method.detector: yolo 3 | method.detector
data=scenes_boxes method=denseclip_retinanet method.tau: 0 -1 abc | method.tau
data=scenes_boxes method=denseclip_maskrcnn method.sampled: [1,2] [8] abc | method.sampled
data=scenes_boxes method=denseclip_maskrcnn method.width: 0 1.5 | method.width
"""
