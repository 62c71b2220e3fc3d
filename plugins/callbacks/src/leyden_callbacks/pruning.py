"""Sets the weights that matter least to zero while training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback, hookimpl
from leyden.messages import did_you_mean, listed, shown
from torch import Tensor, nn
from torch.nn.utils import prune

from leyden_callbacks.arguments import check_bool, check_choice, check_int, check_number
from leyden_callbacks.ema import EMA
from leyden_callbacks.speech import say
from leyden_callbacks.stochastic_weight_averaging import StochasticWeightAveraging

if TYPE_CHECKING:
    from leyden import Module, Trainer

_BY_NAME: dict[str, Any] = {
    "l1_unstructured": prune.L1Unstructured,
    "random_unstructured": prune.RandomUnstructured,
    "ln_structured": prune.LnStructured,
    "random_structured": prune.RandomStructured,
}


class ModelPruning(Callback):
    """Prunes parameters with ``torch.nn.utils.prune`` at the end of each epoch.

    Checkpoints hold plain weights under their usual names, the pruned ones being zero, so that a module loads them without this
    callback; the masks are beside them, and a run that goes on keeps them. When training ends, the module is plain again. Of
    several processes all take the masks of rank 0.

    Args:
        pruning_fn: ``"l1_unstructured"``, ``"random_unstructured"``, ``"ln_structured"``, ``"random_structured"``, or a
            class derived from ``torch.nn.utils.prune.BasePruningMethod``.
        parameters_to_prune: pairs of a submodule and the name of its parameter; every one named in ``parameter_names`` if
            not given.
        parameter_names: the names that are looked for in all submodules.
        use_global_unstructured: whether all of them are compared with one another, rather than each parameter with itself.
        amount: the fraction (float) or number (int) of what is left that is pruned each time; or a function of the epoch.
        apply_pruning: whether to prune in an epoch; a bool or a function of the epoch.
        use_lottery_ticket_hypothesis: whether the remaining weights go back to what they were before training; a bool or a
            function of the epoch.
        make_pruning_permanent: whether the module is plain again after training; otherwise its masks stay in it.
        pruning_dim: the dimension along which a structured method prunes.
        pruning_norm: the norm of ``"ln_structured"``.
        verbose: 1 says the sparsity on standard error after pruning, 2 that of each parameter too.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or arguments do not go together.
    """

    name = "pruning"
    takes_state_in_evaluation = False

    def __init__(
        self,
        pruning_fn: str | type[Any] = "l1_unstructured",
        parameters_to_prune: Sequence[tuple[nn.Module, str]] | None = None,
        parameter_names: Sequence[str] = ("weight",),
        use_global_unstructured: bool = True,
        amount: int | float | Callable[[int], int | float] = 0.5,
        apply_pruning: bool | Callable[[int], bool] = True,
        use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = False,
        make_pruning_permanent: bool = True,
        pruning_dim: int | None = None,
        pruning_norm: int | None = None,
        verbose: int = 0,
    ) -> None:
        owner = type(self).__name__
        self.method: Any
        if isinstance(pruning_fn, str):
            if pruning_fn not in _BY_NAME:
                hint = did_you_mean(pruning_fn, _BY_NAME)
                raise ValueError(f"{owner}(pruning_fn={pruning_fn!r}): expected one of {', '.join(map(repr, _BY_NAME))}{hint}")
            self.method = _BY_NAME[pruning_fn]
        elif inspect.isclass(pruning_fn) and issubclass(pruning_fn, prune.BasePruningMethod):
            self.method = pruning_fn
        else:
            raise TypeError(
                f"{owner}(pruning_fn={pruning_fn!r}): expected a name or a class derived from "
                f"torch.nn.utils.prune.BasePruningMethod, got {shown(pruning_fn)}"
            )
        check_bool(owner, "use_global_unstructured", use_global_unstructured)
        structured = self.method.PRUNING_TYPE == "structured"
        if structured and use_global_unstructured:
            raise ValueError(f"{owner}: {pruning_fn!r} prunes whole rows of one parameter; pass use_global_unstructured=False")
        if structured and pruning_dim is None:
            raise ValueError(f"{owner}(pruning_fn={pruning_fn!r}): say along which dimension, with pruning_dim=...")
        if self.method is prune.LnStructured and pruning_norm is None:
            raise ValueError(f"{owner}(pruning_fn={pruning_fn!r}): say which norm, with pruning_norm=...")
        if not callable(amount):
            check_number(owner, "amount", amount, 0)
            if isinstance(amount, float) and amount > 1:
                raise ValueError(f"{owner}(amount={amount!r}): expected a fraction from 0 to 1, an int or a function")
        for argument, switch in (
            ("apply_pruning", apply_pruning),
            ("use_lottery_ticket_hypothesis", use_lottery_ticket_hypothesis),
        ):
            if not callable(switch):
                check_bool(owner, argument, switch)
        check_bool(owner, "make_pruning_permanent", make_pruning_permanent)
        check_choice(owner, "verbose", verbose, (0, 1, 2))
        if pruning_dim is not None:
            check_int(owner, "pruning_dim", pruning_dim, -8)
        self.parameters_to_prune = parameters_to_prune
        self.parameter_names = tuple(parameter_names)
        self.use_global_unstructured = use_global_unstructured
        self.amount = amount
        self.apply_pruning = apply_pruning
        self.use_lottery_ticket_hypothesis = use_lottery_ticket_hypothesis
        self.make_pruning_permanent = make_pruning_permanent
        self.pruning_dim = pruning_dim
        self.pruning_norm = pruning_norm
        self.verbose = verbose
        self._parts: dict[str, tuple[nn.Module, str]] = {}
        self._originals: dict[str, Tensor] = {}

    # ---- what it knows ----

    @property
    def sparsity(self) -> dict[str, float]:
        """The fraction of zeros of each parameter, by its name in the module."""
        return {name: float((getattr(part, key) == 0).float().mean()) for name, (part, key) in self._parts.items()}

    def _masks(self) -> dict[str, Tensor]:
        return {name: getattr(part, f"{key}_mask") for name, (part, key) in self._parts.items() if hasattr(part, f"{key}_mask")}

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """The masks, and the weights before training where they are needed again."""
        masks = {name: mask.detach().bool().clone() for name, mask in self._masks().items()}
        return {"masks": masks, "originals": dict(self._originals)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Puts the masks on the weights, which a checkpoint has loaded before.

        Raises:
            ValueError: it is of a run that pruned other parameters.
        """
        self._originals = dict(state_dict["originals"])
        other = [name for name in state_dict["masks"] if name not in self._parts]
        if other:
            raise ValueError(
                f"{type(self).__name__}: the checkpoint has masks of {listed(other)}, which is not among what is pruned here: "
                f"{listed(list(self._parts))}; prune the same parameters"
            )
        for name, mask in state_dict["masks"].items():
            part, key = self._parts[name]
            prune.custom_from_mask(part, key, mask.to(getattr(part, key).dtype))  # type: ignore[no-untyped-call]  # torch has no types here

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Finds what to prune.

        Raises:
            ValueError: there is nothing, a parameter does not exist, or another callback averages weights.
        """
        if stage != "fit":
            return
        owner = type(self).__name__
        for other in trainer.callbacks:
            if isinstance(other, EMA | StochasticWeightAveraging):
                raise ValueError(
                    f"{owner} and {type(other).__name__}: an average of weights from before and after pruning has no zeros; "
                    f"leave out one of them"
                )
        names = {id(part): name for name, part in module.named_modules()}
        given = self.parameters_to_prune
        pairs = list(given) if given is not None else [
            (part, key) for part in module.modules() for key in self.parameter_names if key in part._parameters
        ]  # fmt: skip
        self._parts = {}
        for part, key in pairs:
            if id(part) not in names:
                raise ValueError(
                    f"{owner}: parameters_to_prune has a {type(part).__name__} that is no part of {type(module).__name__}"
                )
            if part._parameters.get(key) is None:
                raise ValueError(
                    f"{owner}: {names[id(part)] or type(module).__name__!r} has no parameter {key!r}"
                    f"{did_you_mean(key, part._parameters)}"
                )
            self._parts[f"{names[id(part)]}.{key}".lstrip(".")] = (part, key)
        if not self._parts:
            raise ValueError(
                f"{owner}: no part of {type(module).__name__} has a parameter named "
                f"{' or '.join(map(repr, self.parameter_names))}"
            )
        self._originals = {}
        if self.use_lottery_ticket_hypothesis:
            self._originals = {name: getattr(part, key).detach().clone() for name, (part, key) in self._parts.items()}

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Prunes."""
        epoch = trainer.current_epoch
        if not (self.apply_pruning(epoch) if callable(self.apply_pruning) else self.apply_pruning):
            return
        amount = self.amount(epoch) if callable(self.amount) else self.amount
        if not amount:
            return
        self.prune(amount)
        if trainer.world_size > 1:
            self._agree(trainer)
        rewind = self.use_lottery_ticket_hypothesis
        if rewind(epoch) if callable(rewind) else rewind:
            self._rewind()
        if self.verbose:
            self._tell(trainer)

    def prune(self, amount: int | float) -> None:
        """Prunes so much of what is left."""
        if self.use_global_unstructured:
            prune.global_unstructured(list(self._parts.values()), pruning_method=self.method, amount=amount)
            return
        for part, key in self._parts.values():
            options: dict[str, Any] = {"amount": amount}
            if self.method.PRUNING_TYPE == "structured":
                options["dim"] = self.pruning_dim
            if self.method is prune.LnStructured:
                options["n"] = self.pruning_norm
            self.method.apply(part, key, **options)

    @torch.no_grad()
    def _agree(self, trainer: Trainer) -> None:
        """Has every process take rank 0's masks: random ones differ, and so would the module be another one on each."""
        masks = trainer.strategy.broadcast({name: mask.bool().cpu() for name, mask in self._masks().items()})
        for name, (part, key) in self._parts.items():
            mask = getattr(part, f"{key}_mask")
            mask.copy_(masks[name])
            setattr(part, key, getattr(part, f"{key}_orig") * mask)  # as torch does before each forward

    @torch.no_grad()
    def _rewind(self) -> None:
        for name, (part, key) in self._parts.items():
            getattr(part, f"{key}_orig").copy_(self._originals[name])

    def _tell(self, trainer: Trainer) -> None:
        masks = self._masks()
        zeros = sum(int((mask == 0).sum()) for mask in masks.values())
        total = sum(mask.numel() for mask in masks.values())
        say(trainer, f"{zeros} of {total} weights are pruned ({zeros / total:.1%})")
        if self.verbose == 2:
            for name, mask in masks.items():
                say(trainer, f"  {name}: {int((mask == 0).sum())} of {mask.numel()}")

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Makes the module plain again."""
        if self.make_pruning_permanent:
            self._remove()

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Likewise after a failure, so that another fit can start; not before others had the chance to save the masks."""
        if stage == "fit" and self.make_pruning_permanent:
            self._remove()

    def _remove(self) -> None:
        for part, key in self._parts.values():
            if hasattr(part, f"{key}_mask"):
                prune.remove(part, key)  # type: ignore[no-untyped-call]  # torch has no types here

    def on_save_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Saves plain weights."""
        state = dict(checkpoint["state_dict"])
        for name in self._masks():
            if f"{name}_orig" in state:
                state[name] = state.pop(f"{name}_orig") * state.pop(f"{name}_mask")
        checkpoint["state_dict"] = state
