"""The constructor arguments that a module or a data module keeps as hyperparameters."""

from __future__ import annotations

import copy
import inspect
from argparse import Namespace
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from leyden.messages import alternatives, shown


class AttributeDict(dict[str, Any]):
    """A dict whose string keys are attributes too: ``hparams.lr`` is ``hparams["lr"]``. Values are kept as they are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no hyperparameter {name!r}{alternatives(name, self, 'there are')}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"no hyperparameter {name!r}") from None

    def __repr__(self) -> str:
        return "\n".join(f"{key!r}: {value!r}" for key, value in self.items())


class HyperparametersMixin:
    """Gives a class ``save_hyperparameters()`` and ``hparams``."""

    # Plain class attributes, so that a module works whether or not the user saved anything.
    _hparams: AttributeDict | None = None
    _hparams_initial: AttributeDict | None = None
    _hparams_name: str | None = None
    _hparams_given: type | None = None
    _hparams_reported: tuple[str, ...] = ()
    _log_hyperparams: bool = False

    @property
    def hparams(self) -> AttributeDict:
        """The hyperparameters; empty until ``save_hyperparameters`` is called. Values may be changed."""
        if self._hparams is None:
            self._hparams = AttributeDict()
        return self._hparams

    @hparams.setter
    def hparams(self, value: Mapping[str, Any] | Namespace) -> None:
        # As ``save_hyperparameters(value)`` in __init__, in the words of older code.
        if not isinstance(value, Mapping | Namespace):
            raise TypeError(f"hparams = {shown(value)}: expected a dict or a Namespace")
        frame = inspect.currentframe()
        while frame is not None and (
            frame.f_code.co_name != "__init__" or frame.f_locals.get(next(iter(frame.f_code.co_varnames), "")) is not self
        ):
            frame = frame.f_back  # nn.Module's own __setattr__ lies in between
        self._hparams = None
        if frame is not None:
            self.save_hyperparameters(value, frame=frame)
        else:
            self.hparams.update(vars(value) if isinstance(value, Namespace) else value)

    @property
    def hparams_initial(self) -> AttributeDict:
        """A copy of the hyperparameters as they were saved."""
        return copy.copy(self._hparams_initial) if self._hparams_initial is not None else AttributeDict()

    def save_hyperparameters(
        self, *args: Any, ignore: str | Iterable[str] | None = None, frame: FrameType | None = None, logger: bool = True
    ) -> None:
        """Keeps arguments of ``__init__`` in ``hparams``, in checkpoints and with the loggers.

        Args:
            args: names of arguments to keep; or one object (a dict or a Namespace) whose items are kept. Without, every
                argument of ``__init__`` is kept, those of subclasses included.
            ignore: names not to keep.
            frame: the frame of ``__init__``, if this is not called from there.
            logger: whether loggers are given them.

        Raises:
            ValueError: an argument was named that ``__init__`` does not have.
        """
        if frame is None:
            current = inspect.currentframe()
            frame = current.f_back if current else None
        if frame is None:
            raise RuntimeError("save_hyperparameters() needs the frame of __init__; pass frame=inspect.currentframe()")
        arguments = _init_arguments(self, frame)
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        name: str | None = None
        given: Any = next(iter(args), None)
        if args and all(isinstance(argument, str) for argument in args):
            for wanted in args:
                if wanted not in arguments:
                    raise ValueError(
                        f"save_hyperparameters({wanted!r}): {type(self).__name__}.__init__ has no argument {wanted!r}"
                        f"{alternatives(wanted, arguments, 'its arguments')}"
                    )
            chosen = {wanted: arguments[wanted] for wanted in args}
        elif args:
            if len(args) > 1:
                raise ValueError("save_hyperparameters() takes names of arguments, or one object such as a dict or a Namespace")
            if isinstance(given, Namespace):
                chosen = dict(vars(given))
            elif isinstance(given, Mapping):
                chosen = dict(given)
            else:
                raise ValueError(f"save_hyperparameters() cannot keep a {type(given).__name__}; pass a dict or a Namespace")
            name = next((key for key, value in arguments.items() if value is given), None)
        else:
            chosen = arguments
        chosen = {key: value for key, value in chosen.items() if key not in ignored}
        self.hparams.update(chosen)
        for key in ignored:  # a base class may have kept it already
            self.hparams.pop(key, None)
        if name:
            self._hparams_name, self._hparams_given = name, type(given)
        self._hparams_initial = AttributeDict({key: _copied(value) for key, value in self.hparams.items()})
        self._log_hyperparams = logger


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # some values, such as a generator or a lock, cannot be copied; the original will do
        return value


def _init_arguments(self: object, frame: FrameType) -> dict[str, Any]:
    """The arguments of the ``__init__`` calls of ``self`` that are running now, the most derived class's last."""
    found: dict[str, Any] = {}
    current: FrameType | None = frame
    while current is not None and current.f_code.co_name == "__init__":
        names = current.f_code.co_varnames[: current.f_code.co_argcount + current.f_code.co_kwonlyargcount]
        if not names or current.f_locals.get(names[0]) is not self:
            break
        arguments = {name: current.f_locals[name] for name in names[1:] if name in current.f_locals}
        if current.f_code.co_flags & inspect.CO_VARKEYWORDS:
            position = len(names) + bool(current.f_code.co_flags & inspect.CO_VARARGS)
            arguments.update(current.f_locals.get(current.f_code.co_varnames[position], {}))
        found.update(arguments)
        current = current.f_back
    return found
