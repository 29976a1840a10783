"""Wrong values of keys of relations and of the search for colours, in the form of `VALUES` in tests/bad_inputs.py."""

PAIRS = """
data=scenes_relations method=cpt_relation shots=0 task.module.ks: [1] [a] 5
data=scenes_relations method=cpt_relation shots: 4 -1
data=scenes_relations method=cpt_relation shots=0 method.chunk: 0 abc
data=scenes_relations shots=0 method: cpt zeroshot | task=relation needs scores of relations
data=scenes_refer method=cpt_colors shots: 0 | CPTColors looks at training images
data=scenes_refer method=cpt_colors method.count: 1 99 abc
data=scenes_refer method=cpt_colors method.levels: [-1] [300] 5
data=scenes_refer method=cpt_colors method.form: both
data=scenes_refer method=cpt_learned recipe=none shots: 0 | LearnedCPT no expression to learn from
"""
