"""Wrong command lines, with words of the sentence that refuses them. Right ones: tests/good_inputs.py."""

from bad_topics import TOPICS

LONG = "x" * 3000
# [other overrides] KEY: values [| words of the sentence; without them KEY=]
VALUES = """
shots: -3 0 true abc 1.5 null [1,2] {a:1} '16' nan
seed: -1 abc 1.5 4294967296 null true 1e3
epochs: 0 -1 1.5 null true inf 1000000000000000000000
batch_size: 0 1.5 abc false 1000000000000000000000
precision: 64 fp16 null [32-true]
eval_every: -1 abc null
select: best null
objective: 5 [a] '' true summary.H.value metrics.test.accuracy | objective=
fit: abc 1 null no
force: abc null
ckpt: 5 [a] ''
init_from: true '' nowhere
init_from: a_file | a_file
targets: 5 null
earlier: 5 [a] {} {gives:5} {gives:nope} {gives:nope.ckpt} {gives:epochs} | earlier
earlier: {gives:init_from,nope:1} {gives:init_from,fit:false} | is nothing that an earlier run can have otherwise
source: 5 null
data_root: 5 null
data_index: [a] ''
folder: 5 nowhere
output: a_file a_file/below read_only read_only/below 5 null '' [a] {a:b}
workers: -1 abc 1.5 null 100000
decoded_mb: -1 auto 1.5 null 100000000
threads: 100000 0 abc null 1.5 true
accumulate: 0 abc 1.5 null
eval_batch_size: 0 abc 1000000000000000000000
shard_classes: -1 abc null
save_every: -1 abc nan
save_steps: 0 -1 1.5
method: cooop [a] '' _base ../coop /etc/passwd
data: shapez _base _real
clip: tinny
protocol: few_shots
task: classificatio [a]
task: null 5 | --help lists them
task.module: 5 null {a:5} | task.module
task.report: 5 [a]
task.name: null 5
task.baseline: 5
task.module._target_: builtins.dict prompts.coop.CoOp lightning_modules.task.TaskModule | is no kind of task
optim: sgdd
trainer: gpuu _base
logger: cvs
callbacks: defaults
debug: fastt
experiment: nope _eleven _imagenet
method: null 5 | --help lists them
data: null | --help lists them
protocol: null | --help lists them
trainer: null | --help lists them
callbacks: 5 | --help lists them
method: {} | changes nothing
protocol.evaluate: {} | changes nothing
protocol.train: foo null 5 [] [base,foo] 3/2 0/2 1/0 | protocol.train
protocol.evaluate: {a:3/2} | protocol.evaluate.a
protocol.summary: 5 {H:5} {H:{median:[test]}} {H:{mean:[nope]}} {H:{mean:5}} | protocol.summary
protocol.recipe: 5 [a] | protocol.recipe=
protocol.evaluate: 5 null [a] | protocol.evaluate
protocol.evaluate: {a:foo} {a:null} | protocol.evaluate.a
protocol.targets: 5 {toy:5} {toy:[nope]} {shapes:[digits]} | targets
data.alternating_batch_size: -1 abc null
data.views: 0 -1 abc null
data.templates: foo [no_braces] [] [5] null
data.sampler: x null
data.augmentation: x
data.order: null
data.on_bad_image: x
data.subset: x
data.name: null
data.source: 5 null foo {_target_:toys.Nothing} {_target_:toys.NAMES} {_target_:builtins.list} | data.source
data._target_: 5 datamodules.module.Few nowhere.Thing os.getcwd builtins.dict | data.
optim.lr: abc -1 null nan inf 0 true [1] '0.1'
optim.momentum: abc -1
optim.weight_decay: null inf
optim._target_: os.system torch.optim.SGDD builtins.dict 5 torch.zeros | optim
trainer.devices: -5 abc 0 1.5 null [] [a] true
trainer.num_nodes: 0 abc
trainer.accelerator: foo null
trainer.strategy: foo 5 | trainer
trainer.log_every_n_steps: abc -1
+trainer.gradient_clip_val: -1 0 abc nan inf | trainer.gradient_clip_val=
+trainer.min_epochs: 0 -1 abc 1.5 | trainer.min_epochs=
epochs=3 +trainer.min_epochs: 4 | trainer.min_epochs=4 is more than epochs=3
+trainer.min_steps: 0 abc | trainer.min_steps=
callbacks.progress: 5 {_target_:nowhere.Thing} | callbacks.progress
method=coop method.n_ctx: abc 1.5 null 0 -2 true [4]
method=coop method.n_ctx: 1000 | tokens
method=coop method.init: 5 [a,b] true '' | method.init
method=coop method.position: x null
method=coop method.class_context: abc 1
method=coop method.n_ctx=4 method.init: word | method.init
method=coop method.nctx: 4 | Did you mean n_ctx
method=coop +method.nctx: 4 | Did you mean n_ctx
method=coop ~method.n_ctx method.init: [a]
method=cocoop method.n_ctx: 0 -1
method=maple method.depth: 0 99 -1 abc null | depth
method=maple method.depth=2 method.n_ctx: 0 -1 abc | method.n_ctx=
method=ivlp method.n_text: -1 abc null
method=ivlp method.n_image: -1 1.5
method=vpt method.depth=2 method.n_ctx: 0 -1 abc
method=vpt method.depth=2 method.template: foo 5 null | template
method=vpt method.depth: 0 99 abc | depth
method=zeroshot method.templates: foo [no_braces] [] 5 null | template
method=dpl_search method.lengths: [] 5 [a] [-1,2] [2,2] null
method=dpl_search method.alpha_lr: -1 abc nan
method=dpl_search method.paper_init: abc
method=dpl method.prompt_lengths={text:[2,2,2],image:[2,2,2,2]} method.kd_weight: -1
method=dpl method.teacher: 5 {weights:random} | method.teacher
method=dpl method.prompt_lengths: nowhere 5 {text:5}
method=promptsrc method.depth_text=2 method.depth_image=2 method.mu: abc nan
method=promptsrc method.depth_text=2 method.depth_image=2 method.sigma: 0 abc
method=promptsrc method.depth_text=2 method.depth_image=2 method.kl_weight: inf -1
method=promptsrc method.depth_text=2 method.depth_image=2 method.text_weight: -1
method=rpp clip@method.distillation.teacher=toy method.distillation.weight: -1 abc
method=rpp clip@method.distillation.teacher=toy method.distillation.temperature: 0 nan | temperature=
method=rpp clip@method.distillation.teacher=toy method.distillation.form: x
method=rpp clip@method.distillation.teacher=toy method.distillation: 5
method=rpp clip@method.distillation.teacher=toy method.qkv_share: x
method=rpp clip@method.distillation.teacher=toy method.local_contrast.log_base: 2
method=rpp clip@method.distillation.teacher=toy method.local_contrast.num_sampled_classes: 1 abc
method=rpp clip@method.distillation.teacher=toy method.distillation.teacher: 5
method=rpp clip@method.distillation.teacher=toy method.tied_init: 2
method=aape method.distill_weight=0 method.hidden: 0 -1 abc 1.5
method=aape method.distill_weight=0 method.reward_scale: abc
method=aape method.distill_weight=0 method.aggregator_lr: -1
method=aape method.distill_weight=0 method.aggregator: 5
method=aape method.distill_weight=0 method.aggregator.kind: x
method=aape method.distill_weight=0 method.aggregator.foo: 1 | method.aggregator.foo
method=aape method.distill_weight: abc -1
method=linear_probe method.max_iter: 0 -1 abc
method=kgcoop method.weight: abc nan -1
method=kgcoop method.templates: foo 5 | templates
method=pomp method.local_contrast.num_sampled_classes: 0
method=pomp method.local_contrast.negative_groups: abc
method=pomp method.local_contrast.foo: 1 | method.local_contrast.foo
method=cupl method.prompts: nowhere.json | nowhere.json
data=eurosat clip=toy source: foo
data=eurosat clip=toy data_root: nowhere a_file | /eurosat
data=shapes data.source.domain: nope | domain
data=shapes data.source.foo: nope | data.source.foo
data=shapes21k data.source.format: nope | format
logger=wandb logger.project: [1]
logger=wandb logger.offline: abc
logger=wandb logger.tags: 5
logger=wandb +logger.projct: x | logger.projct
fit=false ckpt: nowhere read_only | ckpt
fit=false ckpt: a_file | a_file
fit=false init_from: nowhere | ckpt=PATH
"""
GONE = """
shots seed epochs precision fit ckpt targets source output workers decoded_mb threads save_steps method data clip protocol
optim trainer logger callbacks task task.module protocol.train protocol.evaluate protocol.targets data.name data.source
optim.lr trainer.devices data._target_ method._target_ optim._target_
"""
LINES = [
    ("method=cupl", "method.prompts"),
    ("clip=hub", "error: clip.model has no value: give clip.model=VALUE."),
    # keys that contradict others, or that a run fills itself
    ("+targets.x=5", "targets={'x': 5}"),
    ("+recipes.missing=no", "recipes={'missing': 'no'}"),
    ("+trainer.max_steps=0", "trainer.max_steps=0"),
    ("+trainer.logger=true", "give logger=NAME"),
    ("+trainer.callbacks=[]", "give +callbacks"),
    ("+trainer.check_val_every_n_epoch=3", "give eval_every=N"),
    ("+callbacks.mine._target_=os.getcwd", "a callback is a str"),
    ("method=coop method.n_ctx=4 method.init=''", "give more words, or method.init=null"),
    ("data.shots=3", "data.shots=3 contradicts shots=1"),
    ("data.seed=3", "data.seed=3 contradicts seed=1"),
    ("data.batch_size=3", "data.batch_size=3 contradicts batch_size="),
    ("data.subset=new", "data.subset=new contradicts protocol.train=all"),
    ("protocol=cross_dataset", "data=toy"),
    ("protocol.evaluate.test=foo", "protocol.evaluate.test"),
    ("+protocol.evaluat.test=all", "evaluat"),
    ("data.templates=[no braces here]", "data.templates="),
    (f"output={LONG}", "output="),
    (f"method={LONG}", "method="),
    # keys that are not there, additions
    ("shot=3", "Did you mean shots"),
    ("optim.foo=1", "optim.foo"),
    ("+optim.foo=1", "optim.foo"),
    ("+trainer.foo=1", "trainer.foo"),
    ("+logger.foo=1", "logger.foo"),
    ("+data.foo=1", "data.foo"),
    ("+clip.foo=1", "clip.foo"),
    ("+shots=3", "shots"),
    ("~method.rnk", "rnk"),
    # what Hydra cannot read
    ("shots", "shots"),
    ("shots=", "shots="),
    ("shots 3", "shots 3"),
    ("=3", "GROUP=NAME"),
    ("shots=[1", "shots=[1"),
    ("shots={a", "shots={a"),
    ("shots==3", "shots"),
    ("method.=3", "method.=3"),
    ("shots=1,2", "shots=1,2"),
    ("method=coop,maple", "method=coop,maple"),
    ("data.name=b\u00e4", """the value needs quotes, in most shells 'data.name="b\u00e4"'"""),
    ("logger=null", "logger=null names no option: give logger=NAME, logger=none for none"),
    ("output=\x1b[31mred\n", "output="),
    ("output='a\nb'", "output="),
    ("output=a\x00b", "output="),
    ("seed=\u0661", "seed="),
    # interpolations
    ("shots=${nope}", "nope"),
    ("shots=${shots}", "shots cannot be resolved"),
    ("output=${output}", "output cannot be resolved"),
    ("shots=${seed}a", "shots="),
    ("seed=${nope:1}", "nope"),
    ("output=${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
    ("epochs='${by_shots:{2:5},${shots}}'", "no recipe for shots=1"),
    ("epochs='${by_shots:5,${shots}}'", "by_shots"),
    ("epochs='${by_shots:{a:5},${shots}}'", "by_shots"),
    ("epochs='${by_shots:{1:abc},${shots}}'", "epochs="),
    ("epochs='${pick:{a:5},b}'", "pick"),
    ("method=coop method.n_ctx=${nope}", "nope"),
    ("seed=???", "seed"),
    ("data.name=???", "data.name"),
    ("++seed=abc", "seed="),
    ("fit=false", "ckpt=PATH"),
    # lists of options, where there is room for one
    ("experiment=[a,b]", "experiment=b is not known: --help lists"),
    ("method=[coop,maple]", "method=[coop,maple]"),
    ("recipe=[coop-few_shot]", "recipe=[coop-few_shot]"),
    ("optim=[sgd,adamw]", "optim=[sgd,adamw]"),
    ("hydra.foo=1", "hydra.foo"),  # Hydra's own, and those below
    ("hydra.run.dir=a_file", "a_file"),
    ("hydra.mode=nope", "hydra.mode"),
    ("--config-dir nowhere", "nowhere"),
    ("--config-name nope", "nope"),
    ("-m shots=range(1,", "range(1,"),
    ("-m shots=choice()", "choice()"),
    ("-m seed=range(1,10,0)", "range"),
    ("-m output=a_file seed=1,2", "a_file"),
    ("-m output=read_only seed=1,2", "read_only"),
    ("-m seed=1,2 shots=[1", "shots=[1"),
]
WHOLE = ("shots 3", "data.templates=[no braces here]")  # lines that are one word with a space in it


def wrong() -> list[tuple[tuple[str, ...], str]]:
    """(the words of a command line, words of its sentence)"""
    cases = [((line,) if line in WHOLE else tuple(line.split(" ")), words) for line, words in LINES]
    cases += [((f"~{key}",), key.split(".")[-1]) for key in GONE.split()]
    for line in (VALUES.strip() + TOPICS).splitlines():
        left, values = line.split(": ", 1)
        values, _, words = values.partition(" | ")
        *others, key = left.split()
        cases += [((*others, f"{key}={value}"), words or f"{key}=") for value in values.split()]
    return cases


WRONG = wrong()
