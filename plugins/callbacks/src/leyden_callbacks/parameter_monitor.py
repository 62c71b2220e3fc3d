"""Records how large gradients, weights, updates and activations are."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import shown
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_int, check_number

if TYPE_CHECKING:
    from leyden import Module, Trainer
    from torch.optim import Optimizer


class ParameterMonitor(Callback):
    """Records norms at log points, and histograms at the end of each epoch.

    The keys are ``grad_norm`` (before clipping), ``weight_norm`` (before the step), ``update_norm`` and ``update_ratio`` (the
    norm of what the step changed, and that divided by the norm of the weights); those of one part of the module have its name
    behind, as in ``grad_norm/encoder``. They are of the parameters of an optimizer; a second optimizer's are ``grad_norm-1``.
    ``activation_rms/<layer>`` and ``activation_zeros/<layer>`` are the root of the mean square of what a layer without
    sub-modules returned in the last batch of the step, and the share of zeros in it. Between two log points nothing is
    looked at, and at them nothing is read from the device.

    Args:
        gradients: whether gradients are recorded; likewise ``weights``, ``updates`` and ``activations``.
        weights: see above.
        updates: see above; a copy of the parameters is kept during the step of a log point.
        activations: see above.
        histograms: whether weights and the gradients of the last step go to a logger with ``add_histogram`` (TensorBoard's has
            it) at the end of each epoch.
        depth: how many parts of a parameter's name make the key of a norm: with 1 ``encoder.layer.weight`` counts for
            ``grad_norm/encoder``; 0 has the norm of all alone, -1 one for each parameter.
        layers: patterns of names, such as ``["encoder.*"]``, outside of which nothing has a key or a histogram of its own.
        norm_type: the norm's power, such as 2.0; ``float("inf")`` is the largest magnitude.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or there is nothing to record.
    """

    name = "parameter_monitor"

    def __init__(
        self,
        gradients: bool = True,
        weights: bool = False,
        updates: bool = False,
        activations: bool = False,
        histograms: bool = False,
        depth: int = 0,
        layers: list[str] | None = None,
        norm_type: float = 2.0,
    ) -> None:
        owner = type(self).__name__
        chosen = {
            "gradients": gradients, "weights": weights, "updates": updates, "activations": activations, "histograms": histograms,
        }  # fmt: skip
        for argument, value in chosen.items():
            check_bool(owner, argument, value)
        if not any(chosen.values()):
            raise ValueError(f"{owner}(gradients=False) records nothing; switch something on: {', '.join(chosen)}")
        check_int(owner, "depth", depth, -1)
        check_number(owner, "norm_type", norm_type, 0)
        if layers is not None and not (isinstance(layers, list) and all(isinstance(pattern, str) for pattern in layers)):
            raise TypeError(f"{owner}(layers={layers!r}): expected a list of patterns such as ['encoder.*'], got {shown(layers)}")
        self.gradients = gradients
        self.weights = weights
        self.updates = updates
        self.activations = activations
        self.histograms = histograms
        self.depth = depth
        self.layers = layers
        self.norm_type = float(norm_type)
        self._before: list[tuple[str, dict[str, tuple[Tensor, Tensor]]]] = []
        """Of each optimizer that stepped: the suffix of its keys, and its parameters with copies from before the step."""
        self._handles: list[Any] = []
        self._seen: dict[str, Tensor] = {}

    # ---- the run ----

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Refuses what cannot be met.

        Raises:
            ValueError: no logger takes histograms, or activations of compiled steps are wanted.
        """
        owner = type(self).__name__
        if self.activations and trainer.compile_options is not None:
            raise ValueError(f"{owner}(activations=True) cannot look into compiled steps; leave it out, or Trainer(compile=...)")
        if self.histograms and not trainer.fast_dev_run and trainer.is_global_zero and not list(_writers(trainer)):
            raise ValueError(
                f"{owner}(histograms=True): no logger of this Trainer has an experiment with add_histogram; pass "
                f"Trainer(logger='tensorboard')"
            )
        self._forget()

    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        """Follows the layers through a batch before a log point."""
        if self.activations and self._is_due(trainer):
            for name, layer in module.named_modules():
                if next(layer.children(), None) is None and self._has_key(name):
                    self._handles.append(layer.register_forward_hook(self._follow(name or type(layer).__name__)))

    def on_before_optimizer_step(self, trainer: Trainer, module: Module, optimizer: Optimizer) -> None:
        """Records gradients and weights, and copies the weights where updates are wanted."""
        if not self._is_due(trainer):
            return
        optimizer = getattr(optimizer, "optimizer", optimizer)  # the one that manual optimization wraps
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        named = {name: parameter for name, parameter in module.named_parameters() if id(parameter) in own}
        index = next((i for i, other in enumerate(trainer.optimizers) if other is optimizer), 0)
        suffix = f"-{index}" if index else ""
        if self.gradients:
            gradients = {name: parameter.grad for name, parameter in named.items() if parameter.grad is not None}
            self._log(module, f"grad_norm{suffix}", self._norms(gradients))
        if self.weights:
            self._log(module, f"weight_norm{suffix}", self._norms({name: p.detach() for name, p in named.items()}))
        if self.updates:
            self._before.append((suffix, {name: (p.detach(), p.detach().clone()) for name, p in named.items()}))

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Records updates and activations."""
        for suffix, pairs in self._before:
            before = self._norms({name: old for name, (_, old) in pairs.items()})
            norms = self._norms({name: new - old for name, (new, old) in pairs.items()})
            self._log(module, f"update_norm{suffix}", norms)
            self._log(module, f"update_ratio{suffix}", {name: norm / before[name] for name, norm in norms.items()})
        for key, value in self._seen.items():
            module.log(key, value, on_step=True, on_epoch=False, batch_size=1)
        self._forget()

    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Gives histograms to the loggers that take them."""
        if not self.histograms or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        for writer in _writers(trainer):
            for name, parameter in module.named_parameters():
                if self._has_key(name):
                    _write(writer, f"weight/{name}", parameter, trainer.global_step)
                    _write(writer, f"gradient/{name}", parameter.grad, trainer.global_step)

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Leaves nothing on the layers, however the run ended."""
        self._forget()

    # ---- what is recorded ----

    def _is_due(self, trainer: Trainer) -> bool:
        every = trainer.log_every_n_steps
        return bool(every) and (trainer.global_step + 1) % every == 0

    def _has_key(self, name: str) -> bool:
        return self.layers is None or any(fnmatchcase(name, pattern) for pattern in self.layers)

    def _norms(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The norm of all tensors, by ``""``, and of each part that has a key."""
        parts: dict[str, list[Tensor]] = {"": list(tensors.values())}
        if self.depth:
            for name, tensor in tensors.items():
                if self._has_key(name):
                    part = name if self.depth < 0 else ".".join(name.split(".")[: self.depth])
                    parts.setdefault(part, []).append(tensor)
        return {part: torch.nn.utils.get_total_norm(found, self.norm_type) for part, found in parts.items() if found}

    def _log(self, module: Module, key: str, norms: dict[str, Tensor]) -> None:
        for part, norm in norms.items():
            module.log(f"{key}/{part}" if part else key, norm, on_step=True, on_epoch=False, batch_size=1)

    def _follow(self, name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(tensor, Tensor) and tensor.numel():
                tensor = tensor.detach()
                self._seen[f"activation_rms/{name}"] = tensor.float().square().mean().sqrt()
                self._seen[f"activation_zeros/{name}"] = (tensor == 0).float().mean()

        return hook

    def _forget(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._seen, self._before = [], {}, []


def _writers(trainer: Trainer) -> Iterator[Any]:
    """The clients of the run's loggers that take histograms."""
    for logger in trainer.quarantine.active(trainer.loggers):
        experiment = logger.experiment
        if callable(getattr(experiment, "add_histogram", None)):
            yield experiment


def _write(writer: Any, key: str, tensor: Tensor | None, step: int) -> None:
    if tensor is not None and tensor.numel() and bool(tensor.isfinite().all()):  # others have no histogram
        writer.add_histogram(key, tensor.detach().float(), step)
