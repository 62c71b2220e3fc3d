"""What arguments of other libraries' trainers, and their values, are called here."""

from __future__ import annotations

_NAMES: dict[str, str] = {
    "max_epochs": "epochs num_epochs num_train_epochs n_epochs n_epoch",
    "max_epochs, max_steps or max_time": "max_duration duration",
    "max_steps": "num_train_steps num_training_steps train_steps total_steps max_iters",
    "limit_train_batches": "steps_per_epoch epoch_length train_subset_num_batches max_train_steps_per_epoch",
    "limit_val_batches": "validation_steps eval_subset_num_batches max_eval_steps_per_epoch",
    "accelerator and devices": "device use_cpu no_cuda",
    "strategy": "parallelism_config distributed fsdp fsdp_config deepspeed",
    "precision='16-mixed' or 'bf16-mixed'": "fp16 bf16 amp mixed_precision",
    "accumulate_grad_batches": "gradient_accumulation_steps accumulation_steps grad_accum",
    "gradient_clip_val": "max_grad_norm clip_grad_norm clipnorm grad_clip clip_gradient",
    "gradient_clip_val with gradient_clip_algorithm='value'": "clipvalue clip_grad_value",
    "val_check_interval or check_val_every_n_epoch": (
        "eval_interval eval_steps eval_strategy evaluation_strategy eval_every validation_freq evaluate_every_n_steps"
    ),
    "num_sanity_val_steps, or trainer.validate(...) before fit": "eval_on_start",
    "log_every_n_steps": "logging_steps log_interval console_log_interval logging_strategy log_every",
    "an option of the callback that saves checkpoints": (
        "save_interval save_steps save_strategy save_total_limit save_folder save_num_checkpoints_to_keep save_filename "
        "load_best_model_at_end metric_for_best_model"
    ),
    "auto_resume=True, or trainer.fit(..., ckpt_path=...)": "autoresume load_path resume",
    "default_root_dir": "output_dir save_dir log_dir logging_dir workdir",
    "logger": "loggers report_to trackers",
    "an option of the logger, such as logger={'csv': {'name': ...}}": "run_name experiment_name project_name",
    "callbacks": "cbs algorithms handlers",
    "compile": "jit_compile torch_compile compile_config",
    "deterministic": "deterministic_mode full_determinism",
    "detect_anomaly": "anomaly_detection",
    "enable_progress_bar": "progress_bar disable_tqdm verbose",
    "leyden.seed_everything(...)": "seed data_seed random_state",
    "what configure_optimizers() of the module returns": (
        "optimizer optimizers optim opt_func lr learning_rate weight_decay schedulers lr_scheduler lr_scheduler_type "
        "lr_scheduler_kwargs warmup_steps warmup_ratio step_schedulers_every_batch"
    ),
    "training_step() and validation_step() of the module": (
        "loss loss_fn loss_func loss_function criterion metrics compute_metrics label_smoothing_factor"
    ),
    "the batch_size of the DataLoader": "batch_size per_device_train_batch_size per_device_eval_batch_size train_batch_size",
    "trainer.fit(module, train_dataloaders, val_dataloaders)": (
        "model module unit train_dataloader train_dataset train_loader eval_dataloader eval_dataset val_loader val_dataloader "
        "data dls"
    ),
}

ELSEWHERE: dict[str, str] = {word: here for here, words in _NAMES.items() for word in words.split()}
"""Where to say here, by the argument that is not ours."""

_CHOICES: dict[str, dict[str, str]] = {
    "precision": {
        "'16-mixed', or '16-true' for weights of 16 bits too": (
            "fp16 float16 half amp apex mixed mixed_fp16 amp_fp16 fp16-mixed mixed-16"
        ),
        "'bf16-mixed', or 'bf16-true' for weights of 16 bits too": "bfloat16 bf16_mixed amp_bf16 mixed_bf16 mixed-bf16",
        "'32-true'": "fp32 float32 float single full no",
        "'64-true'": "fp64 float64 double",
    },
    "accelerator": {"'cuda'": "nvidia rocm hip amd", "'mps'": "metal apple"},
    "strategy": {"'ddp'": "horovod bagua distributed multi_gpu multi-gpu data_parallel nccl gloo torchrun"},
}

CHOICES = {kind: {word: here for here, words in names.items() for word in words.split()} for kind, names in _CHOICES.items()}
"""What to write here, by the kind of component and the name that is not ours."""
