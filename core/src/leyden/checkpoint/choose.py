"""Chooses among the weights of a file, and says how they differ from a module's."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from leyden.messages import nearest, notify, quoted

_SHOWN = 10  # lines of each kind in a message


@dataclass
class Choice:
    """Which of a file's weights to load, and under which names.

    A pattern is a name, which stands for itself and everything below it (``"encoder"`` for ``"encoder.0.weight"`` too), or has
    ``*`` for any characters.

    Args:
        include: patterns of the names in the file to load; None for all.
        exclude: patterns of the names in the file not to load.
        rename: new names by patterns of names in the file; the first that fits is used. A name renames everything below it,
            and each ``*`` of the new name stands for what the pattern's stood for: ``{"model": "net"}``,
            ``{"blocks.*.conv.*": "layers.*.*"}``. An empty name stands for all, so ``{"model": ""}`` takes a prefix off and
            ``{"": "net"}`` puts one on.
    """

    include: Iterable[str] | None = None
    exclude: Iterable[str] | None = None
    rename: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for argument in ("include", "exclude"):
            given = getattr(self, argument)
            patterns = [given] if isinstance(given, str) else None if given is None else list(given)
            if patterns is not None and not all(isinstance(pattern, str) for pattern in patterns):
                raise TypeError(
                    f"{argument}={quoted(given)}: expected names or patterns of weights, such as 'encoder' or '*.bias'"
                )
            setattr(self, argument, patterns)
        if self.rename is not None and not isinstance(self.rename, Mapping):
            raise TypeError(f"rename={quoted(self.rename)}: expected a dict of new names by old ones, such as {{'model': 'net'}}")

    @property
    def takes_all(self) -> bool:
        """Whether nothing was asked to be left out."""
        return self.include is None and not self.exclude

    def names(self, saved: Iterable[str]) -> dict[str, str]:
        """The names in the file by the names they get.

        Raises:
            ValueError: a pattern fits nothing in the file, or two names become one.
        """
        saved = list(saved)
        for argument, patterns in (
            ("include", self.include or ()),
            ("exclude", self.exclude or ()),
            ("rename", self.rename or ()),
        ):
            for pattern in patterns:
                if not any(_fits(pattern, name) for name in saved):
                    parts = dict.fromkeys([*saved, *(".".join(name.split(".")[:n]) for name in saved for n in (1, 2))])
                    close = nearest(pattern, parts)
                    hint = f"; did you mean {close!r}?" if close else f"; it begins with {', '.join(map(repr, saved[:5]))}"
                    raise ValueError(f"{argument}: {pattern!r} fits no weight of the file{hint}")
        chosen: dict[str, str] = {}
        for name in saved:
            if self._takes(name):
                new = self.renamed(name)
                if new in chosen:
                    raise ValueError(f"rename: both {chosen[new]!r} and {name!r} would become {new!r}")
                chosen[new] = name
        return chosen

    def renamed(self, name: str) -> str:
        """What a name in the file becomes."""
        for pattern, new in (self.rename or {}).items():
            match = _match(pattern, name)
            if match is not None:
                replaced = new
                for part in match.groups():
                    replaced = replaced.replace("*", part, 1)
                rest = name[match.end() :]
                if "*" in pattern:
                    return replaced
                rest = rest.removeprefix(".")
                return f"{replaced}.{rest}" if replaced and rest else replaced or rest
        return name

    def expects(self, name: str) -> bool:
        """Whether a module's weight of this name was meant to come from the file."""
        if self.takes_all:
            return True
        origins = [name]
        for old, new in (self.rename or {}).items():
            if "*" not in old and _fits(new, name):
                rest = name[len(new) :].removeprefix(".")
                origins.append(f"{old}.{rest}" if old and rest else old or rest)
        return any(self._takes(origin) for origin in origins)

    def _takes(self, name: str) -> bool:
        included = self.include is None or any(_fits(pattern, name) for pattern in self.include)
        return included and not any(_fits(pattern, name) for pattern in self.exclude or ())


def _match(pattern: str, name: str) -> re.Match[str] | None:
    if "*" in pattern:
        return re.fullmatch("(.*)".join(map(re.escape, pattern.split("*"))), name)
    return re.match(re.escape(pattern) + r"(?=\.|$)" if pattern else "", name)


def _fits(pattern: str, name: str) -> bool:
    return _match(pattern, name) is not None


@dataclass
class Difference:
    """What did not go from a file into a module; ``str()`` of it is for people."""

    loaded: list[str] = field(default_factory=list)
    """Names of the module's weights that were loaded."""

    missing: list[str] = field(default_factory=list)
    """Names of the module that the file does not have, though it was meant to."""

    unexpected: list[str] = field(default_factory=list)
    """Names of the file, as renamed, that the module does not have."""

    mis_shaped: dict[str, tuple[Sequence[int], Sequence[int]]] = field(default_factory=dict)
    """The file's shape and the module's by name, where they differ."""

    left_out: list[str] = field(default_factory=list)
    """Names of the file that were not chosen."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mis_shaped)

    def __str__(self) -> str:
        lines: list[str] = []
        for what, names, others in (
            ("missing in the file", self.missing, self.unexpected),
            ("not in the module", self.unexpected, self.missing),
        ):
            for name in names[:_SHOWN]:
                close = nearest(name, others)
                lines.append(f"  {what}: {name}" + (f"  (nearest: {close})" if close else ""))
            if len(names) > _SHOWN:
                lines.append(f"  {what}: and {len(names) - _SHOWN} more")
        for name, (saved, own) in list(self.mis_shaped.items())[:_SHOWN]:
            lines.append(f"  another shape: {name} is {list(saved)} in the file, {list(own)} in the module")
        if len(self.mis_shaped) > _SHOWN:
            lines.append(f"  another shape: and {len(self.mis_shaped) - _SHOWN} more")
        return "\n".join(lines)


def load_state(
    module: nn.Module, saved: Mapping[str, Any], choice: Choice | None = None, *, strict: bool = True, path: object = None
) -> Difference:
    """Loads chosen weights into a module; one that is refused leaves the module as it was.

    Args:
        module: takes the weights.
        saved: weights by name.
        choice: which of them; all if None.
        strict: whether names that only one side has are an error; otherwise they are announced. With a choice, names of the
            module that were not to come from the file are never missing.
        path: the file, for messages.

    Raises:
        ValueError: a pattern of the choice fits nothing.
        RuntimeError: the weights do not fit; the message shows how, and what lets them pass.
    """
    choice = choice or Choice()
    chosen = choice.names(saved)
    state: dict[str, Any] = {new: saved[old] for new, old in chosen.items()}
    versions = getattr(saved, "_metadata", None)
    if versions is not None and not choice.rename:
        state = OrderedDict(state)
        state._metadata = versions  # type: ignore[attr-defined]  # where modules look for the versions they were saved with
    own = module.state_dict(keep_vars=True)
    found = Difference(left_out=[name for name in saved if name not in set(chosen.values())])
    found.mis_shaped = {
        name: (tuple(value.shape), tuple(own[name].shape))
        for name, value in state.items()
        if name in own and _differs(value, own[name])
    }
    if found.mis_shaped:
        found.missing, found.unexpected = _names_apart(own, state, choice)
        raise RuntimeError(_refusal(module, found, strict, path))
    alike = own.keys() == state.keys()
    before = None if alike else {name: value.detach().clone() for name, value in own.items() if _is_made(value)}
    # Modules translate names of older versions of themselves, so torch has the last word on what is missing.
    result = nn.Module.load_state_dict(module, state, strict=False)
    found.missing = [name for name in result.missing_keys if choice.expects(name)]
    found.unexpected = list(result.unexpected_keys)
    if found and strict:
        if before is not None:
            nn.Module.load_state_dict(module, before, strict=False)
        raise RuntimeError(_refusal(module, found, strict, path))
    if found:
        notify("LY013", f"{_source(path)} and {type(module).__name__} differ, which strict=False lets pass:\n{found}")
    missing = set(result.missing_keys)
    found.loaded = [name for name in own if name not in missing]
    return found


def _is_made(value: Any) -> bool:
    return isinstance(value, Tensor) and not is_lazy(value)


def _differs(saved: Any, own: Any) -> bool:
    if not isinstance(saved, Tensor) or not _is_made(own):
        return False
    # A vector of one element and a number are taken for each other by torch too.
    return saved.shape != own.shape and not (own.dim() == 0 and saved.shape == (1,))


def _names_apart(own: Mapping[str, Any], state: Mapping[str, Any], choice: Choice) -> tuple[list[str], list[str]]:
    return [name for name in own if name not in state and choice.expects(name)], [name for name in state if name not in own]


def _source(path: object) -> str:
    return "the given weights" if path is None else quoted(str(path))


def _refusal(module: nn.Module, found: Difference, strict: bool, path: object) -> str:
    ways = []
    if found.mis_shaped:
        ways.append(f"exclude={list(found.mis_shaped)[:3]!r} leaves out what has another shape")
    if strict and (found.missing or found.unexpected):
        ways.append("strict=False passes over names that only one side has")
    if any(nearest(name, found.unexpected) for name in found.missing[:_SHOWN]):
        ways.append("rename={...} gives the file's weights other names")
    return f"the weights in {_source(path)} do not fit {type(module).__name__}:\n{found}\n" + "; ".join(ways)


def why_unfit(module: nn.Module, saved: Mapping[str, Any], path: object, error: RuntimeError) -> str:
    """The message for a run's checkpoint whose weights a strategy could not load, with ``error``."""
    own = module.state_dict(keep_vars=True)
    found = Difference()
    found.missing, found.unexpected = _names_apart(own, saved, Choice())
    found.mis_shaped = {
        name: (tuple(value.shape), tuple(own[name].shape))
        for name, value in saved.items()
        if name in own and _differs(value, own[name])
    }
    name = type(module).__name__
    ways = "strict_loading = False on the module passes over names that only one side has; " if not found.mis_shaped else ""
    return (
        f"the weights in {_source(path)} do not fit {name}:\n{found if found else error}\n{ways}"
        f"leyden.load_weights() loads a part of them, for a run without ckpt_path"
    )


def load_weights(
    module: nn.Module,
    path: Any,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    rename: Mapping[str, str] | None = None,
    strict: bool = True,
    map_location: Any = None,
    optimizers: Optimizer | Sequence[Optimizer] = (),
) -> Difference:
    """Loads weights, all or some, into any module.

    Args:
        module: takes the weights.
        path: a file or a URL that fsspec knows (``https://``, ``s3://``, ``memory://``, ...): a checkpoint of leyden or of
            Lightning, a state_dict by itself, or a file of safetensors.
        include: names or patterns of the file's weights to load: ``"encoder"`` for it and all below it, ``"*.bias"``.
        exclude: the same, of those not to load.
        rename: new names by names or patterns in the file, as ``{"model": "net"}``; see :class:`leyden.checkpoint.choose.Choice`.
        strict: whether names that only one side has are an error, else they are announced; weights of the module that
            ``include`` and ``exclude`` leave out are never missing.
        map_location: where the file's tensors go first, as for ``torch.load``; the CPU if None.
        optimizers: optimizers of the module's parameters, in the file's order; each gets the file's state (such as Adam's
            moments) of those parameters whose weights were loaded, and keeps its own options.

    Returns:
        What was loaded and what was not.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: it is a file of safetensors, and that is not installed.
        ValueError: it holds no weights, a pattern fits nothing, or it has no state for the optimizers.
        RuntimeError: the weights do not fit; the module is as before.
    """
    from leyden.checkpoint.format import understood
    from leyden.checkpoint.partial import restore_optimizers
    from leyden.checkpoint_io import read_weights

    choice = Choice(include, exclude, rename)
    checkpoint = understood(read_weights(path, "cpu" if map_location is None else map_location), path)
    found = load_state(module, checkpoint["state_dict"], choice, strict=strict, path=path)
    given = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
    if given:
        restore_optimizers(module, given, checkpoint, choice, set(found.loaded), path)
    return found
