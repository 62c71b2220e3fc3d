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
    "logger": {"'tensorboard'": "tensorboardx tb", "'wandb'": "weights_and_biases weights-and-biases w&b"},
}

_BEST_DEVICE = "accelerator='auto' takes the best device of this machine"
_OWN_LOGGER = "a subclass of leyden.Logger with one method, log_metrics(metrics, step), can send to it"

_ABSENT: dict[str, dict[str, str]] = {
    "accelerator": {
        f"nothing here drives Gaudi; {_BEST_DEVICE}": "hpu gaudi habana",
        f"nothing here drives Graphcore's IPUs, and torch no longer does; {_BEST_DEVICE}": "ipu graphcore",
        f"nothing here drives Intel's GPUs; {_BEST_DEVICE}": "xpu intel oneapi",
        f"nothing here drives Ascend's NPUs; {_BEST_DEVICE}": "npu ascend cann",
    },
    "strategy": {
        "nothing here drives Gaudi; strategy='auto' suits the devices of this machine": (
            "hpu hpu_parallel hpu_single single_hpu habana gaudi"
        ),
        "nothing here drives Graphcore's IPUs, and torch no longer does; strategy='auto' suits the devices of this machine": (
            "ipu ipu_strategy"
        ),
        "nothing here trains with machines that come and go; 'ddp' is for processes that stay": "hivemind collaborative",
    },
    "precision": {
        "nothing here puts layers of 8 or 4 bits into a module; make them in the module's configure_model(), as with "
        "bitsandbytes.nn.Linear4bit, and choose 'bf16-true' or 'bf16-mixed' for the rest": (
            "int8 int8-training nf4 nf4-dq fp4 fp4-dq int4 8bit 4bit bnb bitsandbytes qlora"
        ),
        "nothing here puts layers of 8-bit floats into a module; make them in the module's configure_model(), as with "
        "transformer_engine.pytorch.Linear under its own autocast, and choose 'bf16-true' or 'bf16-mixed' for the rest": (
            "transformer-engine transformer-engine-float16 transformer_engine te fp8 float8 fp8-mixed mxfp8"
        ),
    },
    "logger": {
        "nothing here writes to ClearML itself, whose Task.init(), called before fit, sends on what is logged for TensorBoard": (
            "clearml trains"
        ),
        f"nothing here writes to Neptune; {_OWN_LOGGER}": "neptune",
        f"nothing here writes to Aim; {_OWN_LOGGER}": "aim",
        f"nothing here writes to DVC; {_OWN_LOGGER}, as dvclive.Live.log_metric": "dvclive dvc",
        f"nothing here writes to it; {_OWN_LOGGER}": "swanlab trackio polyaxon sacred azure_ml azureml codecarbon",
    },
}


def _by_word(table: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {kind: {word: text for text, words in names.items() for word in words.split()} for kind, names in table.items()}


CHOICES = _by_word(_CHOICES)
"""What to write here, by the kind of component and the name that is not ours."""

ABSENT = _by_word(_ABSENT)
"""What there is in place of what nobody has made for leyden, by the kind of component and its name elsewhere."""
