"""Command lines that the README, conf/ and docs/ name: composed, checked and made."""

RIGHT = """
method=zeroshot method.templates=imagenet80 data=imagenet
method=zeroshot method.templates=selected data=dtd
method=zeroshot method.templates=["a_{}."]
method=coop protocol=base_to_new data=dtd
method=coop method.class_context=true method.init=null
method=coop method.position=middle
method=coop method.position=front method.n_ctx=4
method=maple data=eurosat shots=16
method=maple data=imagenet trainer=ddp trainer.devices=8 precision=bf16-mixed
method=ivlp method.n_image=0 method.n_text=4
method=ivlp method.prompt_lengths={text:[2,2,2],image:[2,2,0,2]}
method=promptsrc method.sigma=null method.mu=6
method=kgcoop method.weight=0 method.loss=paper
method=linear_probe data=eurosat clip=rn50
method=pomp data=imagenet21k method.local_contrast.negative_groups=8
method=pomp data=imagenet21k method.local_contrast.num_sampled_classes=null
method=pomp data=shapes21k method.local_contrast.log_base=e
method=rpp data=imagenet21k trainer.devices=8 precision=bf16-mixed
method=rpp data=imagenet21k clip@method.distillation.teacher=vit_b16
method=rpp data=shapes21k method.distillation.teacher=null method.distillation.weight=0
method=rpp data=shapes21k method.distillation.form=mixed_target method.distillation.weight=0.5
method=rpp +ablation=shared_3n method.init=null
method=dpl
method=dpl_search data=eurosat
method=dpl data=dtd method.custom_templates=true method.kd_weight=1 clip@method.teacher=vit_l14
method=dpl earlier.method.lengths=[0,4] earlier.method.paper_init=true
method=dpl method.prompt_lengths={text:[2,2,2],image:[2,2,2,2]}
method=aape
method=aape data=dtd method.distill_weight=0
method=aape protocol=base_to_new data=dtd method.prompts=/path/to/texture_prompts_full.json
method=aape method.aggregator.query=image_conditioned method.aggregator.heads=2
method=aape method.aggregator.kind=weights
method=aape_residual
method=aape_residual protocol=base_to_new data=dtd method.prompts=/path/to/texture_prompts_full.json
method=aape method.hidden=32 method.schedule=two_stage method.head=linear_relu
method=aape_captions data=scenes
method=aape_captions data=scenes method.pairing=all method.aggregator.query=per_image
method=aape_captions data=flickr30k init_from=FOLDER
experiment=aape_retrieval +row=retrieval_aape_finetuned
experiment=aape_retrieval_flickr30k
method=cupl data=shapes
method=cupl data=dtd method.prompts=/path/to/texture_prompts_full.json
data=caltech101 clip.weights=/path/to/ViT-B-16.pt
data=caltech101 clip=rn50
data=caltech101 clip=hub clip.model=hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K
data=caltech101 clip.weights=null
data=eurosat source=hub
data=imagenet21k data.source.disk.format=webdataset
data=imagenet21k source=hub data_index=/fast/index
data=imagenet21k data.order=windowed data.on_bad_image=skip workers=8 decoded_mb=0
data=shapes data.sampler=numpy data.views=2 data.augmentation=randaug2
protocol=cross_dataset data=imagenet
protocol=domain_generalization data=shapes
protocol=few_shot +protocol.targets.shapes=[digits]
shots=-1
shots=3 epochs=7
features.store=null
features.store=/elsewhere features.max_gb=2.5 features.views=8
seed=4294967295
eval_every=5 select=best_val
threads=2 workers=auto decoded_mb=20000
accumulate=4 batch_size=64
clip.text_rows=null clip.recompute=true
clip.trainable=layer_norm
clip.trainable={image:{last_2_blocks:0.1},text:bias} method=maple
shard_classes=0
save_every=0.5 save_steps=500
output=/tmp/does/not/exist/yet
debug=fast
optim=adamw optim.lr=1e-4
optim.lr=1 optim.momentum=0 optim.weight_decay=0
optim=adamw +optim.betas=[0.9,0.99]
+optim.nesterov=true
trainer=ddp_cpu
trainer.devices=[0,1] trainer.accelerator=gpu
trainer.devices=-1 trainer.accelerator=gpu
+trainer.gradient_clip_val=1.0
+trainer.deterministic=true
logger=wandb logger.offline=true logger.tags=[a]
logger=wandb +logger.notes=text logger.project=mine logger.entity=me
experiment=search
experiment=aape_batch1
experiment=aape_batch1 method=aape_residual data=dtd method.prompts=FOLDER
experiment=aape-base_to_new method.prompts=FOLDER
experiment=coop-few_shot
experiment=table-pretraining +ablation=shared_3n
experiment=table-dpl_distilled clip@method.teacher=tiny
experiment=pretrain_matched +ablation=matched_rpp data=shapes21k
experiment=kgcoop-few_shot4
""".strip().splitlines()
