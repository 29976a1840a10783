"""Wrong values of keys of language models, of their tasks and methods, in the form of `VALUES` in tests/bad_inputs.py."""

LMS = """
data=scenes task=captioning method=limber lm: tinny
data=scenes task=captioning method=limber lm: hub | lm.model has no value: give lm.model=VALUE
data=scenes task=captioning method=limber lm=gpt2 lm.model: 5 null | lm.model
data=scenes task=captioning method=limber lm=gpt2 +lm.foo: 1 | lm.foo
data=scenes task=captioning method=limber method.position: middle 5
data=scenes task=captioning method=limber method.tokens: 0 abc 1.5
data=scenes task=captioning method=limber method.dropout: 1 -0.1 abc
data=scenes task=captioning method=limber method.h: nowhere a_file 5
data=scenes task=captioning method=limber method.train_h: true abc
method=limber recipe=none data: shapes | task=classification needs class logits
data=scenes task=captioning method: coop | task=captioning needs a prefix for a language model
data=scenes task=captioning method=limber_aape earlier.data: nowhere 5
data=scenes task=captioning method=limber task.module.tokenizer: nltk 5
data=scenes task=captioning method=limber task.module.java_metrics: meteor [5]
data=scenes task=captioning method=limber task.module.generation: null 5
data=scenes task=captioning method=limber task.module.generation.mode: beams 5
data=scenes task=captioning method=limber task.module.generation.max_tokens: 1.5
data=scenes_vqa method=limber task.module.shots: 5 [a]
data=scenes_vqa method=limber task.module.examples: 1.5
data=scenes_vqa method: coop | task=vqa needs a prefix for a language model
"""
