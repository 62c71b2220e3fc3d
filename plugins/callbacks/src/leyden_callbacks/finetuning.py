"""Trains a part of the module at first, and more of it later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import listed, shown
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from leyden_callbacks.arguments import check_bool, check_int, check_number
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer

Parts = nn.Module | Iterable["nn.Module | Iterable[Any]"]


class BaseFinetuning(Callback):
    """Freezes what :meth:`freeze_before_training` says, and calls :meth:`finetune_function` at the start of each epoch.

    Subclasses write these two with the helpers of this class. Parameter groups that were added come back with a checkpoint, and
    so does what was frozen.
    With several processes the gradients of what is trained later are averaged after backward, not while it runs.
    """

    def __init__(self) -> None:
        self._added: dict[str, list[dict[str, Any]]] = {}
        """By the index of an optimizer, the options of each group that was added, parameters by their names."""
        self._own: set[int] = set()
        """The ids of the parameters in them."""
        self._loaded: dict[str, Any] | None = None
        self._module: Module | None = None
        self._frozen_at_first: list[nn.Parameter] = []
        """Where there are several processes: parameters whose gradients the strategy does not know of."""

    # ---- for subclasses ----

    def freeze_before_training(self, module: Module) -> None:
        """Called before ``configure_optimizers``: freeze here."""
        raise NotImplementedError(f"{type(self).__name__}.freeze_before_training(module) says what to freeze")

    def finetune_function(self, module: Module, epoch: int, optimizer: Optimizer) -> None:
        """Called at the start of each epoch for each optimizer: unfreeze here."""
        raise NotImplementedError(f"{type(self).__name__}.finetune_function(module, epoch, optimizer) says what to train when")

    @staticmethod
    def flatten_modules(modules: Parts) -> list[nn.Module]:
        """All modules inside of the given ones that have parameters of their own, or no children."""
        items = [modules] if isinstance(modules, nn.Module) else list(modules)
        found: list[nn.Module] = []
        for item in items:
            if not isinstance(item, nn.Module):
                found += BaseFinetuning.flatten_modules(item)
                continue
            found += [part for part in item.modules() if not list(part.children()) or part._parameters]
        return found

    @staticmethod
    def filter_params(modules: Parts, train_bn: bool = True, requires_grad: bool = True) -> Iterator[nn.Parameter]:
        """The parameters of modules whose ``requires_grad`` is as given; without ``train_bn`` none of batch normalization."""
        for part in BaseFinetuning.flatten_modules(modules):
            if train_bn or not isinstance(part, _BatchNorm):
                yield from (p for p in part.parameters(recurse=False) if p.requires_grad is requires_grad)

    @staticmethod
    def make_trainable(modules: Parts) -> None:
        """Unfreezes every parameter of modules."""
        for part in BaseFinetuning.flatten_modules(modules):
            if isinstance(part, _BatchNorm):
                part.track_running_stats = True
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad = True

    @staticmethod
    def freeze(modules: Parts, train_bn: bool = True) -> None:
        """Freezes every parameter of modules; with ``train_bn`` batch normalization trains on, else its statistics stay."""
        for part in BaseFinetuning.flatten_modules(modules):
            if isinstance(part, _BatchNorm):
                if train_bn:
                    BaseFinetuning.make_trainable(part)
                    continue
                part.track_running_stats = False
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad = False

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Parts, optimizer: Optimizer, lr: float | None = None, initial_denom_lr: float = 10.0, train_bn: bool = True
    ) -> None:
        """Unfreezes modules and has an optimizer train those of their parameters that it does not train yet.

        Frozen ones that are in a group of the optimizer already go over to the new one.

        Args:
            modules: what to train.
            optimizer: gets a parameter group.
            lr: of that group; that of the first one by ``initial_denom_lr`` if not given.
            initial_denom_lr: the divisor.
            train_bn: whether the parameters of batch normalization are among them.
        """
        frozen = {id(parameter) for parameter in BaseFinetuning.filter_params(modules, requires_grad=False)}
        BaseFinetuning.make_trainable(modules)
        rate = lr if lr is not None else float(optimizer.param_groups[0]["lr"]) / initial_denom_lr
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]} - frozen
        new = [p for p in BaseFinetuning.filter_params(modules, train_bn=train_bn) if id(p) not in trained]
        if new:
            _add_group(optimizer, {"params": new, "lr": rate})

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """The parameter groups that were added, and what is not frozen."""
        state: dict[str, Any] = {"added": {index: [dict(group) for group in groups] for index, groups in self._added.items()}}
        if self._module is not None:
            state["trained"] = [name for name, parameter in self._module.named_parameters() if parameter.requires_grad]
            state["tracked"] = [name for name, part in _norms(self._module) if part.track_running_stats]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Adds them again when the optimizers exist."""
        self._loaded = state_dict

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Freezes, before any optimizer exists.

        Raises:
            ValueError: the strategy shards the module.
        """
        if stage != "fit":
            return
        if trainer.strategy.device_mesh is not None:
            raise ValueError(
                f"{type(self).__name__} freezes parameters before a run and trains them later, but strategy="
                f"{trainer.strategy.name!r} shards those that can be trained when the run starts; choose one that does not, "
                f"such as 'ddp'"
            )
        self._frozen_at_first = []
        self._added, self._loaded, self._module = {}, None, module
        self._own.clear()
        self.freeze_before_training(module)

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Brings back what a checkpoint says of groups and frozen parts, before the optimizers' states are loaded."""
        if self._loaded is None:
            return
        loaded, self._loaded = self._loaded, None
        parameters = dict(module.named_parameters())
        self._added = {index: [dict(group) for group in groups] for index, groups in loaded["added"].items()}
        for index, groups in self._added.items():
            for group in groups:
                members = [parameters[name] for name in group["params"]]
                for parameter in members:
                    parameter.requires_grad = True
                _add_group(trainer.optimizers[int(index)], {**group, "params": members})
                self._own.update(map(id, members))
        if "trained" in loaded:
            trained, tracked = set(loaded["trained"]), set(loaded["tracked"])
            for name, parameter in parameters.items():
                parameter.requires_grad = name in trained
            for name, part in _norms(module):
                part.track_running_stats = name in tracked

    def validate_run(self, trainer: Trainer, module: Module) -> None:
        """Notes what the strategy has seen frozen: of those that can be trained later it averages no gradients."""
        if trainer.world_size > 1:
            self._frozen_at_first = [parameter for parameter in module.parameters() if not parameter.requires_grad]

    def on_after_backward(self, trainer: Trainer, module: Module) -> None:
        """Averages those gradients over processes, which is the same for the sum of a window as for each batch of it."""
        unfrozen = [parameter for parameter in self._frozen_at_first if parameter.requires_grad]
        if not unfrozen:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in unfrozen:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for parameters in by_dtype.values():
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            mean = trainer.strategy.all_reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]), "mean")
            parts = torch.split(mean, [parameter.numel() for parameter in parameters])
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """Lets the subclass unfreeze, and notes the groups that it added."""
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for index, optimizer in enumerate(trainer.optimizers):
            before = len(optimizer.param_groups)
            self.finetune_function(module, trainer.current_epoch, optimizer)
            for group in optimizer.param_groups[before:]:
                # Defaults of the optimizer's come back by themselves; what is no plain number stays out.
                plain = {key: value for key, value in group.items() if isinstance(value, int | float | str) and key != "params"}
                self._added.setdefault(str(index), []).append({**plain, "params": [names[id(p)] for p in group["params"]]})
                self._own.update(map(id, group["params"]))


def _norms(module: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, part) for name, part in module.named_modules() if isinstance(part, _BatchNorm))


def _add_group(optimizer: Optimizer, added: dict[str, Any]) -> None:
    """Adds a parameter group, out of others where they have its parameters."""
    own = {id(parameter) for parameter in added["params"]}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
    optimizer.add_param_group(added)


class BackboneFinetuning(BaseFinetuning):
    """Trains without ``module.backbone`` at first, then with it, at a learning rate of its own that grows.

    Of several optimizers the first one trains it.

    Args:
        unfreeze_backbone_at_epoch: the first epoch, from 0, that trains the backbone.
        lambda_func: of the epoch, what the backbone's learning rate is multiplied by at the start of each later epoch.
        backbone_initial_ratio_lr: the backbone's first learning rate as a part of the module's.
        backbone_initial_lr: that rate itself, in place of the ratio.
        should_align: whether the backbone's rate stops growing at the module's.
        initial_denom_lr: a divisor of the backbone's first rate where the parameter group is made.
        train_bn: whether batch normalization in the backbone is trained from the start.
        verbose: whether to say the learning rates on standard error.
        rounding: digits of a rate that is said.
        backbone: the name of the attribute of the module that is the backbone.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "backbone_finetuning"

    def __init__(
        self,
        unfreeze_backbone_at_epoch: int = 10,
        lambda_func: Callable[[int], float] = lambda epoch: 2.0,
        backbone_initial_ratio_lr: float = 0.1,
        backbone_initial_lr: float | None = None,
        should_align: bool = True,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
        verbose: bool = False,
        rounding: int = 12,
        backbone: str = "backbone",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_int(owner, "unfreeze_backbone_at_epoch", unfreeze_backbone_at_epoch, 0)
        if not callable(lambda_func):
            raise TypeError(f"{owner}(lambda_func={lambda_func!r}): expected a function of the epoch, got {shown(lambda_func)}")
        check_number(owner, "backbone_initial_ratio_lr", backbone_initial_ratio_lr, 0)
        if backbone_initial_lr is not None:
            check_number(owner, "backbone_initial_lr", backbone_initial_lr, 0)
        check_bool(owner, "should_align", should_align)
        check_number(owner, "initial_denom_lr", initial_denom_lr, 1e-12)
        check_bool(owner, "train_bn", train_bn)
        check_bool(owner, "verbose", verbose)
        check_int(owner, "rounding", rounding, 1)
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.backbone = backbone
        self.previous_backbone_lr: float | None = None
        """The backbone's learning rate; None while it is frozen."""

    def state_dict(self) -> dict[str, Any]:
        """The groups that were added and the backbone's learning rate."""
        return {**super().state_dict(), "previous_backbone_lr": self.previous_backbone_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        super().load_state_dict(state_dict)
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Freezes the backbone.

        Raises:
            AttributeError: the module has none.
            ValueError: the strategy shards the module.
        """
        if stage != "fit":
            return
        self._trainer = trainer
        self.previous_backbone_lr = None
        part = getattr(module, self.backbone, None)
        if not isinstance(part, nn.Module):
            children = [name for name, _ in module.named_children()]
            raise AttributeError(
                f"{type(self).__name__}: {type(module).__name__} has no part {self.backbone!r}; name the one to freeze with "
                f"backbone=...; its parts: {listed(children)}"
            )
        super().setup(trainer, module, stage)

    def freeze_before_training(self, module: Module) -> None:
        """Freezes the backbone."""
        self.freeze(getattr(module, self.backbone), train_bn=self.train_bn)

    def finetune_function(self, module: Module, epoch: int, optimizer: Optimizer) -> None:
        """Unfreezes the backbone in its epoch, and raises its learning rate in later ones."""
        rate = float(optimizer.param_groups[0]["lr"])
        if epoch < self.unfreeze_backbone_at_epoch:
            return
        if self.previous_backbone_lr is None:
            begun = self.backbone_initial_lr if self.backbone_initial_lr is not None else rate * self.backbone_initial_ratio_lr
            self.previous_backbone_lr = begun
            self.unfreeze_and_add_param_group(
                getattr(module, self.backbone), optimizer, begun, self.initial_denom_lr, train_bn=self.train_bn
            )
        else:
            groups = [group for group in optimizer.param_groups if group["params"] and id(group["params"][0]) in self._own]
            if not groups:
                return
            grown = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            self.previous_backbone_lr = min(grown, rate) if self.should_align else grown
            groups[-1]["lr"] = self.previous_backbone_lr
        if self.verbose:
            shown_rate, own = round(rate, self.rounding), round(self.previous_backbone_lr, self.rounding)
            say(self._trainer, f"epoch {epoch}: the learning rate is {shown_rate}, the backbone's {own}")
