"""Keeps an exponential moving average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.progress import END
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice, check_int, check_number

if TYPE_CHECKING:
    from leyden import Module, Trainer


class EMA(Callback):
    """Averages the weights after each optimizer step: ``average = decay * average + (1 - decay) * weights``.

    Buffers, such as the statistics of batch normalization, are not averaged: those of the module are used. A step that a
    gradient scaler skipped, and a batch that only accumulates, change nothing. Averages of weights in 16 bits are kept in 32,
    for in 16 most updates would be too small to change anything.

    Args:
        decay: how much of the old average stays.
        update_every_n_steps: optimizer steps between two updates.
        update_starting_at_step: until so many optimizer steps are done the average is the weights themselves.
        validate: whether validation inside fit uses the average.
        save: what checkpoints have as their ``state_dict``: ``"average"`` or ``"weights"``. The other one is kept beside it,
            so training goes on bit for bit from either. ``test(ckpt_path="best")`` uses what is saved here.
        keep: whether the module has the average when ``fit`` returns; otherwise :attr:`average` has it.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "ema"

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int = 0,
        validate: bool = True,
        save: str = "average",
        keep: bool = True,
    ) -> None:
        owner = type(self).__name__
        check_number(owner, "decay", decay, 0)
        if decay >= 1:
            raise ValueError(f"{owner}(decay={decay!r}): expected a number below 1, at which the average would never change")
        check_int(owner, "update_every_n_steps", update_every_n_steps, 1)
        check_int(owner, "update_starting_at_step", update_starting_at_step, 0)
        check_bool(owner, "validate", validate)
        check_choice(owner, "save", save, ("average", "weights"))
        check_bool(owner, "keep", keep)
        self.decay = decay
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.validate = validate
        self.save = save
        self.keep = keep
        self._forget()

    def _forget(self) -> None:
        self.average: dict[str, Tensor] = {}
        """The average of each parameter, by its name."""
        self._parameters: list[Tensor] = []  # what the module has when the average is not in its place
        self._averages: list[Tensor] = []
        self._is_wider = False  # whether an average has more digits than its parameter
        self._put_aside: list[Tensor] | None = None  # the weights, while the average is in their place
        self._loaded: dict[str, Any] | None = None
        self._step = 0
        self._validates = False  # whether a validation goes on that uses the average, or was cut short

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this.

        Raises:
            ValueError: another callback averages too.
        """
        if stage != "fit":
            return
        if sum(isinstance(callback, EMA) for callback in trainer.callbacks) > 1:
            raise ValueError(f"two callbacks of class {type(self).__name__}: validation can use one average; leave out the other")
        self._forget()

    def on_load_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Puts the weights of the saved run into the module, if the checkpoint has its average there."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is None or trainer.stage != "fit":
            return
        own = dict(module.named_parameters())
        saved = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name in state["other"]}
        average = saved if state["saved"] == "average" else state["other"]
        self._loaded = {**state, "average": state.get("average", average)}
        if state["saved"] == "average":
            with torch.no_grad():
                for name, tensor in state["other"].items():
                    if name in own:  # another module is refused, or let pass, by who loads the optimizers
                        own[name].copy_(tensor)

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Begins with the weights, or goes on with the average of a checkpoint."""
        weights = {name: parameter for name, parameter in module.named_parameters() if parameter.is_floating_point()}
        self.average = {name: at_least_32_bits(parameter.detach()).clone() for name, parameter in weights.items()}
        if self._loaded is not None:
            for name, tensor in self._loaded["average"].items():
                if name in self.average:
                    self.average[name].copy_(tensor)
            self._step = int(self._loaded["step"])
            self._validates = bool(self._loaded.get("validates", False))
            self._loaded = None
        self._averages, self._parameters = list(self.average.values()), list(weights.values())
        self._is_wider = any(a.dtype != p.dtype for a, p in zip(self._averages, self._parameters, strict=True))
        index = {id(parameter): position for position, parameter in enumerate(self._parameters)}
        named = module.named_parameters(remove_duplicate=False)
        # A parameter that two layers share has two names in a state_dict.
        self._names = {name: index[id(parameter)] for name, parameter in named if id(parameter) in index}

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Puts the average back into the module, where a checkpoint was taken inside of a validation."""
        if self._validates and trainer.progress.validation.moment != END:
            self._swap_in()

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Updates the average if a step was taken."""
        step = trainer.global_step
        if step == self._step:
            return
        self._step = step
        if step <= self.update_starting_at_step:
            self._update(0.0)
        elif step % self.update_every_n_steps == 0:
            self._update(self.decay)

    @torch.no_grad()
    def _update(self, decay: float) -> None:
        # One kernel for many parameters; a loop over them takes longer than the step of a small model.
        weights = [at_least_32_bits(weight) for weight in self._parameters] if self._is_wider else self._parameters
        torch._foreach_lerp_(self._averages, weights, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]  # as torch's own optimizers

    @torch.no_grad()
    def _swap_in(self) -> None:
        if self._put_aside is None:
            # Values are copied and tensors stay, for compiled steps, optimizers and strategies hold on to those.
            self._put_aside = [parameter.detach().clone() for parameter in self._parameters]
            torch._foreach_copy_(self._parameters, self._averages)  # pyright: ignore[reportPrivateImportUsage]  # as torch's own optimizers

    @torch.no_grad()
    def _swap_out(self) -> None:
        if self._put_aside is not None:
            torch._foreach_copy_(self._parameters, self._put_aside)  # pyright: ignore[reportPrivateImportUsage]  # as torch's own optimizers
            self._put_aside = None

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Puts the average into the module."""
        if self.validate and trainer.stage == "fit" and not trainer.sanity_checking:
            self._validates = True
            self._swap_in()

    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Puts the weights back."""
        if trainer.stage == "fit":
            self._validates = False
            self._swap_out()

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Leaves the average in the module, if asked to."""
        if self.keep:
            self._swap_in()

    def on_exception(self, trainer: Trainer, module: Module, exception: BaseException) -> None:
        """Leaves the weights in the module, wherever the run broke off."""
        self._swap_out()

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Frees the device."""
        if stage == "fit" and self.average:
            self.average = {name: tensor.to("cpu") for name, tensor in self.average.items()}
            self._averages = list(self.average.values())
            if self._put_aside is not None:
                self._put_aside = [tensor.to("cpu") for tensor in self._put_aside]

    # ---- checkpoints ----

    def on_save_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Has one of the two in the ``state_dict`` and keeps the other for who goes on training."""
        if not self.average:
            return
        weights = self._put_aside if self._put_aside is not None else [p.detach() for p in self._parameters]
        averages = [average.to(weight.dtype) for average, weight in zip(self._averages, weights, strict=True)]
        shown, other = (averages, weights) if self.save == "average" else (weights, averages)
        # Copies: the module's own tensors may have moved on when the file is written.
        saved = {name: shown[index].clone() for name, index in self._names.items() if name in checkpoint["state_dict"]}
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **saved}
        if "callbacks" not in checkpoint:
            return
        state: dict[str, Any] = {"saved": self.save, "step": self._step, "validates": self._validates}
        state["other"] = {name: tensor.clone() for name, tensor in zip(self.average, other, strict=True)}
        if self._is_wider:
            state["average"] = {name: tensor.clone() for name, tensor in self.average.items()}
        checkpoint["callbacks"][self.state_key] = state


def at_least_32_bits(tensor: Tensor) -> Tensor:
    """``tensor``, in 32 bits if its numbers have fewer."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor
