"""What the user writes: the model, its steps and its optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leyden.adapted import own_state
from leyden.data.transfer import apply_to_tensors, move_to_device
from leyden.hookspecs import hookspec
from leyden.hparams import HyperparametersMixin
from leyden.metrics.store import is_metric
from leyden.strategy import Strategy

if TYPE_CHECKING:
    from leyden.logger import Logger
    from leyden.trainer import Trainer

M = TypeVar("M", bound="Module")


class Module(HyperparametersMixin, nn.Module):
    """An ``nn.Module`` with a ``training_step`` and whatever else its training needs.

    It needs no Trainer to be built, called, saved or loaded. Override ``training_step`` and ``configure_optimizers`` to
    train, ``validation_step``, ``test_step`` and ``predict_step`` for the rest. Any hook of :class:`leyden.hookspecs.Hooks`
    can be overridden, without its arguments ``trainer`` and ``module``.
    """

    example_input_array: Any = None
    """An input of ``forward`` for summaries, graphs and exports: a tensor, a tuple of arguments or a dict of them."""

    automatic_optimization: bool = True
    """Whether the loop runs backward and the optimizer on what ``training_step`` returns."""

    strict_loading: bool = True
    """Whether loading a checkpoint with missing or unexpected weights is an error."""

    prepare_data_per_node: bool = True
    """Whether ``prepare_data`` runs once a node rather than once in all."""

    _trainer: Trainer | None = None

    # TorchScript compiles every property and keeps every attribute it is not told to leave alone.
    __jit_unused_properties__: ClassVar[list[str]] = [
        "trainer", "device", "dtype", "current_epoch", "global_step", "global_rank", "local_rank", "on_gpu", "logger", "loggers",
        "hparams", "hparams_initial", "device_mesh", "fabric",
    ]  # fmt: skip
    __jit_ignored_attributes__: ClassVar[list[str]] = [
        "example_input_array", "automatic_optimization", "strict_loading", "prepare_data_per_node", "_trainer",
    ]  # fmt: skip

    # ---- where it runs ----

    @property
    def trainer(self) -> Trainer:
        """The Trainer of the running or the last run.

        Raises:
            RuntimeError: the module was never given to one.
        """
        if self._trainer is None:
            raise RuntimeError(f"{type(self).__name__} is not attached to a Trainer; it is from trainer.fit(module) on")
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        self._trainer = trainer

    @property
    def device(self) -> torch.device:
        """The device of the first parameter or buffer; the CPU if there is none."""
        if self._trainer is not None and self._trainer.running:
            return self._trainer.strategy.device  # right also in setup(), before the module is moved
        tensor: Tensor | None = next(self.parameters(), None)
        if tensor is None:
            tensor = next(self.buffers(), None)
        return tensor.device if tensor is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating-point parameter or buffer; torch's default if there is none."""
        for tensors in (self.parameters(), self.buffers()):
            for tensor in tensors:
                if tensor.is_floating_point():
                    return tensor.dtype
        return torch.get_default_dtype()

    @property
    def current_epoch(self) -> int:
        """The number of the running epoch, from 0; 0 without a Trainer."""
        return self._trainer.current_epoch if self._trainer else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps so far; 0 without a Trainer."""
        return self._trainer.global_step if self._trainer else 0

    @property
    def global_rank(self) -> int:
        """This process among all of the run; 0 without a Trainer."""
        return self._trainer.strategy.rank if self._trainer else 0

    @property
    def local_rank(self) -> int:
        """This process among those of its node; 0 without a Trainer."""
        return self._trainer.strategy.local_rank if self._trainer else 0

    @property
    def on_gpu(self) -> bool:
        """Whether the module is on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def logger(self) -> Logger | None:
        """The first logger, or None."""
        return self._trainer.logger if self._trainer else None

    @property
    def loggers(self) -> list[Logger]:
        """All loggers; empty without a Trainer."""
        return self._trainer.loggers if self._trainer else []

    @property
    def device_mesh(self) -> Any:
        """The ``DeviceMesh`` of a strategy that shards the module, for ``configure_model``; None with others."""
        return self._trainer.strategy.device_mesh if self._trainer else None

    @property
    def fabric(self) -> None:
        """None: who wants the loop to himself has ``trainer.batches()``, and no object beside the Trainer."""
        return None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on rank 0 only."""
        if self.global_rank == 0:
            print(*args, **kwargs)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """The tensors of all processes, shape ``(world_size, *data.shape)``; without a Trainer ``(1, *data.shape)``.

        Args:
            data: a tensor, or lists, tuples and dicts of tensors, of the same shapes in every process.
            group: accepted where it is None: all processes take part.
            sync_grads: whether gradients flow back to the processes that the tensors came from.

        Raises:
            ValueError: a group is given.
        """
        if group is not None:
            raise ValueError(f"all_gather(group={group!r}): all processes take part; call torch.distributed for some of them")
        strategy = self._trainer.strategy if self._trainer else Strategy()
        return apply_to_tensors(data, lambda tensor: strategy.all_gather(tensor, sync_grads))

    # ---- logging ----

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Records a value; without a running Trainer it does nothing.

        With ``on_step`` and ``on_epoch`` both, the keys are ``name_step`` and ``name_epoch``.

        Args:
            name: the key, such as ``"train/loss"``.
            value: a number, a tensor of one element, or a torchmetrics Metric: the value of its last call is the step's, its
                ``compute()`` the epoch's, after which it is reset. It is copied; nothing is read from the device before a log
                point.
            prog_bar: whether the progress bar shows it.
            logger: whether loggers get it; default yes.
            on_step: whether its value at each log point is recorded; default in training batches.
            on_epoch: whether its reduction over the epoch is recorded; default everywhere else.
            reduce_fx: how batches make an epoch's value: ``"mean"`` (weighted by batch size), ``"sum"``, ``"min"``, ``"max"``.
            enable_graph: whether ``callback_metrics`` keeps the value's graph.
            sync_dist: accepted for existing code: an epoch's value is always reduced over all processes.
            sync_dist_group: accepted where it is None.
            add_dataloader_idx: whether keys of several loaders differ, as the Trainer's ``loader_key_template`` says: by
                ``/key`` of those given in a dict, else by ``/dataloader_idx_N``.
            batch_size: the weight of this batch in a mean; if not given, the samples that torch's sampler drew for it, or with
                another sampler those that the batch shows. Give it where ``collate_fn`` leaves samples out.
            metric_attribute: accepted for existing code; a torchmetrics object needs no such hint.
            rank_zero_only: whether only rank 0 calls this, so that the value is not reduced over processes.

        Raises:
            ValueError: the value has several elements, the key was logged with other options, or this hook cannot log.
            TypeError: the value is not a number.
        """
        trainer = self._trainer
        if trainer is None or not trainer.accepts_logs:
            return
        options = (prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, add_dataloader_idx, rank_zero_only)
        trainer.metrics.log(name, value, options, batch_size)

    def log_dict(self, dictionary: Mapping[str, Any], **options: Any) -> None:
        """Records each item as :meth:`log` does, with the same options; a torchmetrics MetricCollection is such a dict."""
        # A collection's items are copies unless it is asked for the metrics themselves, which are reset at the epoch's end.
        # A dict is asked for first: torch.compile cannot trace the question whether it is a metric.
        plain = isinstance(dictionary, dict) or not is_metric(dictionary)
        items: Any = dictionary.items() if plain else dictionary.items(copy_state=False)  # type: ignore[call-arg]
        for name, value in items:
            self.log(name, value, **options)

    # ---- what the user writes ----

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Inference; also what ``self(x)`` runs inside a step.

        Raises:
            NotImplementedError: the module has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """``training_step(batch, batch_idx)`` returns the loss (a scalar), or a dict with it under ``"loss"``, or None to
        skip the batch."""
        raise NotImplementedError

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """``validation_step(batch, batch_idx, dataloader_idx=0)``; what it returns is handed to ``on_validation_batch_end``.

        One that takes ``dataloader_name`` is passed the loader's key in the dict of loaders, else ``"dataloader_idx_N"``."""
        raise NotImplementedError

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """``test_step(batch, batch_idx, dataloader_idx=0)``; what it returns is handed to ``on_test_batch_end``.

        One that takes ``dataloader_name`` is passed the loader's key in the dict of loaders, else ``"dataloader_idx_N"``."""
        raise NotImplementedError

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """``predict_step(batch, batch_idx, dataloader_idx=0)`` returns the batch's predictions; here ``self(batch)``."""
        return self(args[0])

    def configure_optimizers(self) -> Any:
        """Returns the optimizer: alone, with schedulers as ``([optimizer], [scheduler])``, or as
        ``{"optimizer": ..., "lr_scheduler": {"scheduler": ..., "interval": "step", "monitor": ...}}``; None trains without."""
        raise NotImplementedError

    def configure_callbacks(self) -> Any:
        """Returns callbacks of the module's own; one of the same class as a Trainer's replaces it."""
        return []

    def configure_model(self) -> None:
        """Called before the module is moved and may be called again: build large layers here, if they do not exist yet."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Any = None) -> None:
        """Steps the optimizer; an override must call the closure, which runs forward and backward, or pass it on."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clears the gradients before backward."""
        optimizer.zero_grad()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Runs backward; an override replaces the precision's and the strategy's."""
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch has no types here

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips the gradients of a step; the arguments are the Trainer's."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips the gradients of an optimizer's parameters, unscaled.

        Args:
            optimizer: whose parameters.
            gradient_clip_val: the largest norm or value; None and 0 do nothing.
            gradient_clip_algorithm: ``"norm"`` (of all gradients together; the default) or ``"value"`` (of each element).

        Raises:
            ValueError: there is no such algorithm.
        """
        if not gradient_clip_val:
            return
        optimizer = getattr(optimizer, "optimizer", optimizer)  # the one that manual optimization wraps
        if self._trainer is not None and self._trainer.running:
            self._trainer.precision.unscale(optimizer)  # does nothing where it was done
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if gradient_clip_algorithm in (None, "norm"):
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        elif gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            raise ValueError(f"gradient_clip_algorithm={gradient_clip_algorithm!r}: expected 'norm' or 'value'")

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Steps a scheduler; ``metric`` is the monitored value of one that is monitored, else None."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Runs backward in manual optimization, with the hooks, the precision and the strategy of the run.

        Raises:
            RuntimeError: optimization is automatic.
        """
        if self.automatic_optimization:
            raise RuntimeError(
                f"manual_backward() needs manual optimization; set self.automatic_optimization = False in "
                f"{type(self).__name__}.__init__"
            )
        self.trainer.manual_backward(loss, *args, **kwargs)

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """The optimizer, or a list of them if there are several; those of manual optimization step with hooks and precision.

        Args:
            use_pl_optimizer: False gives the bare torch optimizers.
        """
        found: list[Any] = list(self.trainer.manual_optimizers if use_pl_optimizer else self.trainer.optimizers)
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> Any:
        """The scheduler, or a list of them if there are several; None if there is none."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        if not found:
            return None
        return found[0] if len(found) == 1 else found

    def toggle_optimizer(self, optimizer: Optimizer) -> None:
        """Turns off ``requires_grad`` of every parameter that ``optimizer`` does not have but another one has."""
        others = [other for other in self.trainer.optimizers if other is not getattr(optimizer, "optimizer", optimizer)]
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        saved: dict[nn.Parameter, bool] = self.__dict__.setdefault("_toggled", {})
        for other in others:
            for group in other.param_groups:
                for parameter in group["params"]:
                    if id(parameter) not in own and parameter not in saved:
                        saved[parameter] = parameter.requires_grad
                        parameter.requires_grad = False

    def untoggle_optimizer(self, optimizer: Optimizer) -> None:
        """Undoes :meth:`toggle_optimizer`."""
        saved: dict[nn.Parameter, bool] = self.__dict__.get("_toggled", {})
        for parameter, requires_grad in saved.items():
            parameter.requires_grad = requires_grad
        saved.clear()

    @contextmanager
    def toggled_optimizer(self, optimizer: Optimizer) -> Iterator[None]:
        """Toggles inside a ``with`` block."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def freeze(self: M) -> M:
        """Turns off gradients of every parameter and sets eval mode; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        self.eval()
        return self

    def unfreeze(self: M) -> M:
        """Turns on gradients of every parameter and sets train mode; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = True
        self.train()
        return self

    # ---- data ----

    def prepare_data(self) -> None:
        """Downloads and the like, once a node; assign nothing to ``self`` here."""

    def train_dataloader(self) -> Any:
        """Returns the training batches: a DataLoader, or any iterable of batches."""
        raise NotImplementedError

    def val_dataloader(self) -> Any:
        """Returns the validation batches, or a list of several such."""
        raise NotImplementedError

    def test_dataloader(self) -> Any:
        """Returns the test batches, or a list of several such."""
        raise NotImplementedError

    def predict_dataloader(self) -> Any:
        """Returns the batches to predict, or a list of several such."""
        raise NotImplementedError

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Returns the batch to move to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Returns the batch on ``device``; tensors in lists, tuples, dicts, dataclasses and objects with ``to`` are found."""
        return move_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Returns the batch to use, given it on the device: the place for augmentation there."""
        return batch

    # ---- hooks; their moments are described in leyden.hookspecs.Hooks ----

    @hookspec
    def setup(self, stage: str) -> None: ...
    @hookspec
    def teardown(self, stage: str) -> None: ...
    @hookspec
    def on_fit_start(self) -> None: ...
    @hookspec
    def on_fit_end(self) -> None: ...
    @hookspec
    def on_sanity_check_start(self) -> None: ...
    @hookspec
    def on_sanity_check_end(self) -> None: ...
    @hookspec
    def on_train_start(self) -> None: ...
    @hookspec
    def on_train_end(self) -> None: ...
    @hookspec
    def on_train_epoch_start(self) -> None: ...
    @hookspec
    def on_train_epoch_end(self) -> None: ...
    @hookspec
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None: ...
    @hookspec
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None: ...
    @hookspec
    def on_before_zero_grad(self, optimizer: Optimizer) -> None: ...
    @hookspec
    def on_before_backward(self, loss: Tensor) -> None: ...
    @hookspec
    def on_after_backward(self) -> None: ...
    @hookspec
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None: ...
    @hookspec
    def on_validation_start(self) -> None: ...
    @hookspec
    def on_validation_end(self) -> None: ...
    @hookspec
    def on_validation_epoch_start(self) -> None: ...
    @hookspec
    def on_validation_epoch_end(self) -> None: ...
    @hookspec
    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    @hookspec
    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    @hookspec
    def on_test_start(self) -> None: ...
    @hookspec
    def on_test_end(self) -> None: ...
    @hookspec
    def on_test_epoch_start(self) -> None: ...
    @hookspec
    def on_test_epoch_end(self) -> None: ...
    @hookspec
    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    @hookspec
    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    @hookspec
    def on_predict_start(self) -> None: ...
    @hookspec
    def on_predict_end(self) -> None: ...
    @hookspec
    def on_predict_epoch_start(self) -> None: ...
    @hookspec
    def on_predict_epoch_end(self) -> None: ...
    @hookspec
    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    @hookspec
    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    @hookspec
    def on_exception(self, exception: BaseException) -> None: ...
    @hookspec
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None: ...
    @hookspec
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None: ...

    # Modes around evaluation: methods, not hooks, for they say what happens.

    def on_validation_model_zero_grad(self) -> None:
        """Called before validation inside fit; override to free gradients there with ``self.zero_grad()``."""

    def on_validation_model_eval(self) -> None:
        """Sets eval mode before validation."""
        self.eval()

    def on_validation_model_train(self) -> None:
        """Called after validation, when every submodule's mode was put back."""

    def on_test_model_eval(self) -> None:
        """Sets eval mode before a test."""
        self.eval()

    def on_test_model_train(self) -> None:
        """Called after a test, when every submodule's mode was put back."""

    def on_predict_model_eval(self) -> None:
        """Sets eval mode before predicting."""
        self.eval()

    def on_predict_model_train(self) -> None:
        """Called after predicting, when every submodule's mode was put back."""

    # ---- exporting ----

    def to_onnx(self, file_path: str | Path | None = None, input_sample: Any = None, **kwargs: Any) -> Any:
        """Exports ``forward`` in eval mode to ONNX.

        Args:
            file_path: a local file to write; the weights of large models go to files beside it.
            input_sample: an input of ``forward``: a tensor, a tuple of arguments or a dict of them; ``example_input_array`` if
                not given.
            kwargs: options of ``torch.onnx.export``, such as ``dynamic_shapes``.

        Returns:
            The ``torch.onnx.ONNXProgram``; None with ``dynamo=False``.

        Raises:
            ModuleNotFoundError: ``onnx`` or ``onnxscript`` is not installed.
            ValueError: there is no input, or no ``forward``, or ``file_path`` is not local.
        """
        from leyden.export import to_onnx

        return to_onnx(self, file_path, input_sample, kwargs)

    def to_torchscript(
        self, file_path: str | Path | None = None, method: str = "script", example_inputs: Any = None, **kwargs: Any
    ) -> torch.jit.ScriptModule:
        """Exports ``forward`` in eval mode to TorchScript, which torch has deprecated; :meth:`to_torch_export` replaces it.

        Args:
            file_path: a local file to write, for ``torch.jit.load``.
            method: ``"script"`` compiles the source of ``forward``, ``"trace"`` follows it on an input.
            example_inputs: what to trace: a tensor, a tuple of arguments or a dict of them; ``example_input_array`` if not given.
            kwargs: options of ``torch.jit.script`` or ``torch.jit.trace``.

        Raises:
            ValueError: there is no such method, no input to trace, or no ``forward``, or ``file_path`` is not local.
        """
        from leyden.export import to_torchscript

        return to_torchscript(self, file_path, method, example_inputs, kwargs)

    def to_torch_export(
        self, file_path: str | Path | None = None, input_sample: Any = None, dynamic_shapes: Any = None, **kwargs: Any
    ) -> torch.export.ExportedProgram:
        """Exports ``forward`` in eval mode to a program of ``torch.export``.

        Args:
            file_path: a local file to write, for ``torch.export.load``; its name ends in ``.pt2``.
            input_sample: an input of ``forward``, as for :meth:`to_onnx`.
            dynamic_shapes: which dimensions may differ from the input's, as for ``torch.export.export``.
            kwargs: other options of ``torch.export.export``.

        Raises:
            ValueError: there is no input, or no ``forward``, or ``file_path`` is not local.
        """
        from leyden.export import to_torch_export

        return to_torch_export(self, file_path, input_sample, dynamic_shapes, kwargs)

    # ---- saving and loading ----

    @classmethod
    def load_from_checkpoint(
        cls: type[M],
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        include: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        rename: Mapping[str, str] | None = None,
        allow: Iterable[Any] | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> M:
        """Builds the module from the hyperparameters in a checkpoint and loads its weights; Lightning's files too.

        Args:
            checkpoint_path: a file or a URL that fsspec knows.
            map_location: where the weights go, as for ``torch.load``; the CPU if not given.
            hparams_file: a YAML or CSV file is not read: hyperparameters come from the checkpoint and ``kwargs``.
            strict: whether missing or unexpected weights are an error; the module's ``strict_loading`` if not given.
            weights_only: True or None; a checkpoint is never unpickled.
            include: which of the file's weights to load, as for :func:`leyden.load_weights`.
            exclude: which of them not to load.
            rename: new names for them.
            allow: classes and functions that the file may have as hyperparameters, see :func:`leyden.allow_rebuild`; or a
                dict of what stands for them now by the import path in the file, ``"package.module:Class"``.
            kwargs: constructor arguments that replace or add to those in the checkpoint. A constructor's own argument of the
                name ``include``, ``exclude``, ``rename`` or ``allow`` goes before ours.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a checkpoint.
            TypeError: a constructor argument is missing, or a hyperparameter is of a class that is not allowed.
            RuntimeError: the weights do not fit.
        """
        from leyden.checkpoint.build import build_from_checkpoint

        ours = {"include": include, "exclude": exclude, "rename": rename, "allow": allow}
        return build_from_checkpoint(cls, checkpoint_path, map_location, hparams_file, strict, weights_only, ours, kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the module (an average of weights, a worker's, a pickle) is not attached to the run.
        state = own_state(self)
        state.pop("_trainer", None)
        return state


def is_overridden(name: str, obj: object, base: type) -> bool:
    """Whether a user's class or object replaces the method ``name`` of ``base``."""
    own = getattr(obj, name, None)
    plain = getattr(base, name, None)
    return own is not None and getattr(own, "__func__", own) is not plain
