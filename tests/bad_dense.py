"""Wrong values of keys of methods that say something of each pixel, in the form of `VALUES` in tests/bad_inputs.py."""

DENSE = """
data=scenes_masks method=denseclip method.guidance: after 5
data=scenes_masks method=denseclip method.text: coop | method.text
data=scenes_masks method=denseclip method.text: {name:nobody} {n_ctx:4} {name:limber} | method.text
data=scenes_masks method=denseclip method.text: {name:coop,depth:2} | method.text.depth is no setting of coop
data=scenes_masks method=denseclip method.n_ctx: -1 1.5
data=scenes_masks method=denseclip method.n_ctx: 80 | use fewer context tokens
data=scenes_masks method=denseclip method.decoder_heads: 0 3
data=scenes_masks method=denseclip method.dropout: 1 -0.1 abc
data=scenes_masks method=denseclip method.head: deeplab 5
data=scenes_masks method=denseclip method.norm: layer 5
data=scenes_masks method=denseclip method.blocks: [0,1] [0,1,2,9] 3 | blocks
data=scenes_masks method=denseclip method.tau: 0 -1 abc
data=scenes_masks method=denseclip method.score_weight: -1 abc
data=scenes_masks method=denseclip method.neck_rate: -1 abc
method=denseclip recipe=none data: shapes | task=classification needs class logits
data=scenes_masks recipe=none method: coop | task=segmentation needs pixel logits
"""
