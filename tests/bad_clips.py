"""Wrong values of clip's keys, in the form of `VALUES` in tests/bad_inputs.py."""

CLIPS = """
clip=tiny clip.text_rows: -1 0 abc 1.5
clip=tiny clip.recompute: abc
clip=tiny clip.foo: 1 | clip.foo
clip=vit_b32 clip.weights: nowhere.pt a_file 5 | weights
clip=vit_b32 clip.model: nope 5 null nowhere.json | model
clip=tiny method=coop clip.trainable: foo 3 [bias] {}
clip=tiny method=coop clip.trainable: last_99_blocks {audio:all} {text:{bias:nan}} {image:{}} | clip.trainable
clip=tiny method=kgcoop clip.trainable: bias | clip.trainable trains the CLIP, but KgCoOp needs it as it was loaded
"""
