"""Translates every argument that a Trainer of Lightning ever had, or refuses it with the sentence that says what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import leyden

from leyden_lightning.api.exceptions import MisconfigurationException
from leyden_lightning.api.resolution import resolve
from leyden_lightning.api.surface import NAMES
from leyden_lightning.legacy.notices import legacy

RENAMED = {
    "max_nb_epochs": "max_epochs",
    "min_nb_epochs": "min_epochs",
    "nb_sanity_val_steps": "num_sanity_val_steps",
    "nb_gpu_nodes": "num_nodes",
    "num_gpu_nodes": "num_nodes",
    "gradient_clip": "gradient_clip_val",
    "default_save_path": "default_root_dir",
    "add_row_log_interval": "log_every_n_steps",
    "row_log_interval": "log_every_n_steps",
    "overfit_pct": "overfit_batches",
    "train_percent_check": "limit_train_batches",
    "val_percent_check": "limit_val_batches",
    "test_percent_check": "limit_test_batches",
    "show_progress_bar": "enable_progress_bar",
    "replace_sampler_ddp": "use_distributed_sampler",
}
_NEEDLESS = {
    "auto_select_gpus": "leave it out: devices='auto' takes what is there",
    "move_metrics_to_cpu": "leave it out: leyden keeps no more metrics on the device than the last ones",
    "enable_pl_optimizer": "leave it out: optimizers are what configure_optimizers returned",
    "log_save_interval": "leave it out: leyden's loggers write as they go",
    "flush_logs_every_n_steps": "leave it out, or give it to the logger: CSVLogger(flush_logs_every_n_steps=...)",
    "suggest_integrations": "leave it out: leyden suggests nothing",
}
_STRATEGIES = {
    "ddp": "ddp",
    "ddp_spawn": "ddp_spawn",
    "ddp_fork": "ddp_fork",
    "ddp_notebook": "ddp_notebook",
    "dp": "dp",
    "fsdp": "fsdp",
    "fsdp_native": "fsdp",
    "deepspeed": "deepspeed",
    "ddp_cpu": "ddp",
    "ddp_find_unused_parameters_false": "ddp_find_unused_parameters_false",
}
_GONE_STRATEGIES = {
    "ddp2": "'ddp2' (dp inside a node, ddp between nodes) was dropped by Lightning in 1.7; write strategy='ddp'",
    "horovod": "'horovod' was dropped by Lightning in 2.0; write strategy='ddp'",
    "bagua": "'bagua' was dropped by Lightning in 2.0; write strategy='ddp'",
    "colossalai": "'colossalai' was dropped by Lightning in 2.0; write strategy='deepspeed', or 'fsdp'",
    "ddp_sharded": "'ddp_sharded' (fairscale) was dropped by Lightning in 2.0; write strategy='fsdp', or 'ddp'",
    "ddp_sharded_spawn": "'ddp_sharded_spawn' (fairscale) was dropped by Lightning in 2.0; write strategy='fsdp', or 'ddp'",
    "fairscale": "'fairscale' was dropped by Lightning in 2.0; write strategy='fsdp'",
}
_DRIVERS = {
    **dict.fromkeys(
        ("xla", "xla_debug", "xla_fsdp", "single_xla", "single_tpu", "tpu_spawn", "tpu_spawn_debug"), "TPUAccelerator"
    ),
    **dict.fromkeys(("hpu_parallel", "hpu_single"), "HPUAccelerator"),
    "ipu_strategy": "IPUAccelerator",
    "hivemind": "HivemindStrategy",
    "collaborative": "HivemindStrategy",
}
"""Strategies that only a distribution of someone else can bring, each with the name that says what to do."""

SIMPLE = frozenset({
    *RENAMED, *_NEEDLESS, "gpus", "num_processes", "tpu_cores", "num_tpu_cores", "ipus", "use_amp", "amp_backend", "amp_level",
    "distributed_backend", "reload_dataloaders_every_epoch", "terminate_on_nan", "print_nan_grads",
})  # fmt: skip
"""What can be translated without knowing the other arguments, so that every leyden.Trainer takes it."""

KEPT = (
    "resume_from_checkpoint", "truncated_bptt_steps", "automatic_optimization", "prepare_data_per_node",
    "multiple_trainloader_mode", "auto_lr_find", "auto_scale_batch_size",
)  # fmt: skip
"""What a run is asked for later; attributes of the Trainer."""


class Translation:
    """The arguments of one Trainer on their way.

    Args:
        given: the arguments as the user gave them; changed in place.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.kept: dict[str, Any] = {}
        self.callbacks: list[Any] = []

    def run(self, only: frozenset[str] | None = None) -> dict[str, Any]:
        """Translates everything old; returns the arguments of today.

        Args:
            only: the names that may be translated, if not all.

        Raises:
            MisconfigurationException: something cannot be done by leyden.
        """
        for name in list(self.given):
            if only is not None and name not in only:
                continue
            if name in RENAMED:
                self._replace(name, {RENAMED[name]: self.given[name]})
            elif name in _NEEDLESS:
                value = self.given.pop(name)
                if value:
                    legacy(f"Trainer({name}={value!r})", _NEEDLESS[name])
            elif name in _RULES:
                value = self.given.pop(name)
                _RULES[name](self, name, value)
        if self.callbacks:
            given = self.given.get("callbacks")
            given = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
            self.given["callbacks"] = [*given, *self.callbacks]
        return self.given

    def _replace(self, name: str, new: dict[str, Any], shown: str | None = None) -> None:
        value = self.given.pop(name, None)
        if value is None and name in RENAMED:
            return
        self.set(name, value, new, shown)

    def set(self, name: str, value: Any, new: dict[str, Any], shown: str | None = None) -> None:
        """Gives ``new`` in place of an old argument, and says so."""
        text = shown or f"Trainer({', '.join(f'{key}={item!r}' for key, item in new.items())})"
        legacy(f"Trainer({name}={_short(value)})", text)
        for key, item in new.items():
            if key in self.given and self.given[key] not in (None, "auto", item):
                raise MisconfigurationException(
                    f"Trainer({name}={_short(value)}, {key}={self.given[key]!r}): both say what {key} is; leave out {name}"
                )
            self.given[key] = item

    def add(self, name: str, value: Any, callback: Any, shown: str) -> None:
        """Adds a callback in place of an old argument."""
        legacy(f"Trainer({name}={_short(value)})", f"Trainer(callbacks=[{shown}])")
        self.callbacks.append(callback)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__}(...)"


def _gpus(t: Translation, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str) and not value.strip().lstrip("-").isdigit():
        devices: Any = [int(part) for part in value.split(",") if part.strip()]
    else:
        devices = int(value) if isinstance(value, str) else value
    if devices in (0, [], ()):
        legacy(f"Trainer({name}={value!r})", "Trainer(accelerator='cpu')")
        if t.given.get("accelerator") in (None, "auto"):
            t.given["accelerator"] = "cpu"
        return
    backend = t.given.get("accelerator")
    if backend in _STRATEGIES or backend in _GONE_STRATEGIES:
        _accelerator_as_strategy(t)
    t.set(name, value, {"accelerator": "gpu", "devices": devices})


def _num_processes(t: Translation, name: str, value: Any) -> None:
    if value in (None, 1):
        return
    if t.given.get("gpus") or t.given.get("accelerator") in ("gpu", "cuda"):
        return  # 1.x counted the GPUs
    if t.given.get("accelerator") in _STRATEGIES:
        _accelerator_as_strategy(t)
    t.set(name, value, {"accelerator": "cpu", "devices": value})


def _tpu(t: Translation, name: str, value: Any) -> None:
    if not value:
        return
    from leyden.plugins import names

    if "tpu" not in names(leyden.Accelerator):
        raise MisconfigurationException(f"Trainer({name}={value!r}): {NAMES['TPUAccelerator']}")
    t.set(name, value, {"accelerator": "tpu", "devices": value})


def _ipus(t: Translation, name: str, value: Any) -> None:
    if value:
        raise MisconfigurationException(f"Trainer({name}={value!r}): {NAMES['IPUAccelerator']}")


def _accelerator_as_strategy(t: Translation) -> None:
    name = t.given.pop("accelerator")
    _strategy_named(t, f"accelerator={name!r}", name)


def _strategy_named(t: Translation, where: str, name: str) -> None:
    if name in _GONE_STRATEGIES:
        raise MisconfigurationException(f"Trainer({where}): {_GONE_STRATEGIES[name]}")
    new = _STRATEGIES[name]
    accelerator = {"accelerator": "cpu"} if name == "ddp_cpu" else {}
    text = ", ".join(f"{key}={value!r}" for key, value in {"strategy": new, **accelerator}.items())
    legacy(f"Trainer({where})", f"Trainer({text})")
    if t.given.get("strategy") not in (None, "auto", new):
        raise MisconfigurationException(
            f"Trainer({where}, strategy={t.given['strategy']!r}): both say the strategy; leave out {where}"
        )
    t.given["strategy"] = new
    t.given.update(accelerator)


def _distributed_backend(t: Translation, name: str, value: Any) -> None:
    if value is None:
        return
    if value not in _STRATEGIES and value not in _GONE_STRATEGIES:
        t.set(name, value, {"strategy": value})
    else:
        _strategy_named(t, f"{name}={value!r}", value)


def _accelerator(t: Translation, name: str, value: Any) -> None:
    t.given[name] = value
    if isinstance(value, str) and (value in _STRATEGIES or value in _GONE_STRATEGIES):
        _accelerator_as_strategy(t)
    elif value == "ipu":
        raise MisconfigurationException(f"Trainer(accelerator='ipu'): {NAMES['IPUAccelerator']}")
    elif value in ("tpu", "hpu"):
        from leyden.plugins import names

        if value not in names(leyden.Accelerator):
            raise MisconfigurationException(f"Trainer(accelerator={value!r}): {NAMES[f'{value.upper()}Accelerator']}")


def _strategy(t: Translation, name: str, value: Any) -> None:
    if isinstance(value, str) and value in _GONE_STRATEGIES:
        raise MisconfigurationException(f"Trainer(strategy={value!r}): {_GONE_STRATEGIES[value]}")
    if isinstance(value, str) and value in _DRIVERS:
        from leyden.plugins import names

        if value not in names(leyden.Strategy):
            raise MisconfigurationException(f"Trainer(strategy={value!r}): {NAMES[_DRIVERS[value]]}")
    t.given[name] = value


def _checkpoint_callback(t: Translation, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        t.set(name, value, {"enable_checkpointing": value})
    else:
        t.add(name, value, value, "checkpoint_callback")


def _early_stopping(t: Translation, name: str, value: Any) -> None:
    if value is True:
        t.add(name, value, resolve("EarlyStopping")(monitor="val_loss"), "EarlyStopping(monitor='val_loss')")
    elif value not in (None, False):
        t.add(name, value, value, name)


def _refresh_rate(t: Translation, name: str, value: Any) -> None:
    if value is None:
        return
    if value == 0:
        t.set(name, value, {"enable_progress_bar": False})
    else:
        t.add(name, value, resolve("TQDMProgressBar")(refresh_rate=value), f"TQDMProgressBar(refresh_rate={value})")


def _process_position(t: Translation, name: str, value: Any) -> None:
    if value:
        raise MisconfigurationException(f"Trainer({name}={value!r}): leyden's progress bars find their own place; leave it out")


def _weights_summary(t: Translation, name: str, value: Any) -> None:
    if value is None:
        t.set(name, value, {"enable_model_summary": False})
        return
    depth = {"top": 1, "full": -1}.get(value)
    if depth is None:
        raise MisconfigurationException(f"Trainer({name}={value!r}): expected 'top', 'full' or None")
    t.add(name, value, resolve("ModelSummary")(max_depth=depth), f"ModelSummary(max_depth={depth})")


def _weights_save_path(t: Translation, name: str, value: Any) -> None:
    if value is None:
        return
    path = f"{str(value).rstrip('/')}/checkpoints"
    t.add(name, value, resolve("ModelCheckpoint")(dirpath=path), f"ModelCheckpoint(dirpath={path!r})")


def _log_gpu_memory(t: Translation, name: str, value: Any) -> None:
    if value:
        t.add(name, value, resolve("DeviceStatsMonitor")(), "DeviceStatsMonitor()")


def _track_grad_norm(t: Translation, name: str, value: Any) -> None:
    if value in (None, -1, "-1"):
        return
    from leyden_lightning.legacy.callbacks import GradientNorm

    shown = f"a callback whose on_before_optimizer_step logs grad_norm(module, norm_type={value!r})"
    legacy(f"Trainer({name}={value!r})", shown)
    t.callbacks.append(GradientNorm(value))


def _use_amp(t: Translation, name: str, value: Any) -> None:
    if value:
        t.set(name, value, {"precision": "16-mixed"})


def _amp_backend(t: Translation, name: str, value: Any) -> None:
    if value == "apex":
        raise MisconfigurationException(f"Trainer({name}='apex'): {NAMES['ApexMixedPrecisionPlugin']}")
    if value not in (None, "native"):
        raise MisconfigurationException(f"Trainer({name}={value!r}): expected 'native'")


def _amp_level(t: Translation, name: str, value: Any) -> None:
    if value is not None:
        raise MisconfigurationException(f"Trainer({name}={value!r}): {NAMES['ApexMixedPrecisionPlugin']}")


def _reload_every_epoch(t: Translation, name: str, value: Any) -> None:
    if value:
        t.set(name, value, {"reload_dataloaders_every_n_epochs": 1})


def _stochastic_weight_avg(t: Translation, name: str, value: Any) -> None:
    if value:
        t.add(name, value, resolve("StochasticWeightAveraging")(swa_lrs=1e-2), "StochasticWeightAveraging(swa_lrs=1e-2)")


def _terminate_on_nan(t: Translation, name: str, value: Any) -> None:
    if value:
        t.set(name, value, {"nan_policy": "strict"})


def _print_nan_grads(t: Translation, name: str, value: Any) -> None:
    if value:
        t.set(name, value, {"detect_anomaly": True})


def _profiler(t: Translation, name: str, value: Any) -> None:
    t.given[name] = value
    if value is True:
        t.given.pop(name)
        t.set(name, value, {"profiler": "simple"})
    elif value is False:
        t.given[name] = None


def _accumulate(t: Translation, name: str, value: Any) -> None:
    if isinstance(value, dict):
        shown = f"GradientAccumulationScheduler(scheduling={value!r})"
        t.add(name, value, resolve("GradientAccumulationScheduler")(scheduling=value), shown)
    else:
        t.given[name] = value


def _plugins(t: Translation, name: str, value: Any) -> None:
    """Strategies among ``plugins``, as 1.2 to 1.4 had them."""
    items = value if isinstance(value, list | tuple) else [] if value is None else [value]
    rest = []
    for item in items:
        if isinstance(item, leyden.Strategy):
            t.set(name, item, {"strategy": item}, f"Trainer(strategy={type(item).__name__}(...))")
        elif isinstance(item, str):
            _strategy_named(t, f"plugins={item!r}", item) if item in {**_STRATEGIES, **_GONE_STRATEGIES} else rest.append(item)
        else:
            rest.append(item)
    t.given[name] = rest or None


_KEPT_INSTEAD = {
    "resume_from_checkpoint": "trainer.fit(model, ckpt_path=...)",
    "truncated_bptt_steps": "self.truncated_bptt_steps = {value!r} in the module's __init__, or manual optimization",
    "automatic_optimization": "self.automatic_optimization = {value!r} in the module's __init__",
    "prepare_data_per_node": "self.prepare_data_per_node = {value!r} in the module's or the data module's __init__",
    "multiple_trainloader_mode": "CombinedLoader(loaders, mode={value!r}) as train_dataloaders",
    "auto_lr_find": "Tuner(trainer).lr_find(model)",
    "auto_scale_batch_size": "Tuner(trainer).scale_batch_size(model)",
}
_UNSET = {"truncated_bptt_steps": (None, 0), "automatic_optimization": (None, True), "prepare_data_per_node": (None, True)}


def _keep(t: Translation, name: str, value: Any) -> None:
    if value in _UNSET.get(name, (None, False)):
        return
    legacy(f"Trainer({name}={value!r})", _KEPT_INSTEAD[name].format(value=value))
    t.kept[name] = value


_RULES: dict[str, Callable[[Translation, str, Any], None]] = {
    # Those that look at `accelerator` come before it is looked at itself.
    "gpus": _gpus,
    "num_processes": _num_processes,
    "tpu_cores": _tpu,
    "num_tpu_cores": _tpu,
    "ipus": _ipus,
    "distributed_backend": _distributed_backend,
    "accelerator": _accelerator,
    "strategy": _strategy,
    "checkpoint_callback": _checkpoint_callback,
    "early_stopping_callback": _early_stopping,
    "early_stop_callback": _early_stopping,
    "progress_bar_refresh_rate": _refresh_rate,
    "process_position": _process_position,
    "weights_summary": _weights_summary,
    "weights_save_path": _weights_save_path,
    "log_gpu_memory": _log_gpu_memory,
    "track_grad_norm": _track_grad_norm,
    "use_amp": _use_amp,
    "amp_backend": _amp_backend,
    "amp_level": _amp_level,
    "reload_dataloaders_every_epoch": _reload_every_epoch,
    "stochastic_weight_avg": _stochastic_weight_avg,
    "terminate_on_nan": _terminate_on_nan,
    "print_nan_grads": _print_nan_grads,
    "profiler": _profiler,
    "accumulate_grad_batches": _accumulate,
    "plugins": _plugins,
    **dict.fromkeys(KEPT, _keep),
}

INSTEAD: dict[str, str] = {
    **_NEEDLESS,
    **{name: f"write {text.replace('{value!r}', '...')}" for name, text in _KEPT_INSTEAD.items()},
    "gpus": "write accelerator='gpu', devices=...",
    "num_processes": "write accelerator='cpu', devices=...",
    "tpu_cores": NAMES["TPUAccelerator"],
    "num_tpu_cores": NAMES["TPUAccelerator"],
    "ipus": NAMES["IPUAccelerator"],
    "distributed_backend": "write strategy=...",
    "checkpoint_callback": "write enable_checkpointing=..., or callbacks=[ModelCheckpoint(...)]",
    "early_stopping_callback": "write callbacks=[EarlyStopping(...)]",
    "early_stop_callback": "write callbacks=[EarlyStopping(...)]",
    "progress_bar_refresh_rate": "write callbacks=[TQDMProgressBar(refresh_rate=...)], or enable_progress_bar=False",
    "process_position": "leave it out: bars find their own place",
    "weights_summary": "write callbacks=[ModelSummary(max_depth=...)], or enable_model_summary=False",
    "weights_save_path": "write callbacks=[ModelCheckpoint(dirpath=...)]",
    "log_gpu_memory": "write callbacks=[DeviceStatsMonitor()]",
    "track_grad_norm": "write a callback whose on_before_optimizer_step logs grad_norm(module, norm_type=...)",
    "use_amp": "write precision='16-mixed'",
    "amp_backend": "leave it out: there is torch's own mixed precision only",
    "amp_level": NAMES["ApexMixedPrecisionPlugin"],
    "reload_dataloaders_every_epoch": "write reload_dataloaders_every_n_epochs=1",
    "stochastic_weight_avg": "write callbacks=[StochasticWeightAveraging(swa_lrs=...)]",
    "terminate_on_nan": "write nan_policy='strict'",
    "print_nan_grads": "write detect_anomaly=True",
}
"""What to write in place of each, where it is not renamed."""

OLD = frozenset({*RENAMED, *_NEEDLESS, *_RULES}) - {"accelerator", "strategy", "profiler", "accumulate_grad_batches", "plugins"}
"""Every argument that 2.6 no longer has."""
