"""Wrong values of keys of methods that say something of each pixel, in the form of `VALUES` in tests/bad_inputs.py. Their
constructors' other sentences are in tests/prompts/test_denseclip.py."""

DENSE = """
data=scenes_masks method=denseclip method.guidance: after
data=scenes_masks method=denseclip method.text: coop | method.text
data=scenes_masks method=denseclip method.text: {name:limber} | method.text
data=scenes_masks method=denseclip method.n_ctx: 1.5
data=scenes_masks method=denseclip method.n_ctx: 80 | use fewer context tokens
data=scenes_masks method=denseclip method.dropout: 1
data=scenes_masks method=denseclip method.blocks: [0,1,2,9] 3 | blocks
data=scenes_masks method=denseclip method.neck_rate: -1
data=scenes_masks method=denseclip accumulate: 2 | method.norm=group
data=scenes_masks method=denseclip method.norm=group method.channels: 1 | several channels
"""
