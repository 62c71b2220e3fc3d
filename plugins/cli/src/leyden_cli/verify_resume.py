"""``leyden verify-resume``: whether a killed and resumed run of a user's own model is the run that would have been."""

from __future__ import annotations

import importlib.util
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from leyden import Trainer
from leyden.checkpoint.verify import verify
from leyden.messages import announce

from leyden_cli.command import Command, UsageError

_SHOWN = 20


class VerifyResumeCommand(Command):
    """Trains, kills and resumes what a function of the user makes, and says what differs first."""

    help = "kill and resume a run of your own model, and say what differs from one without interruption"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Takes the function, and at which step to kill."""
        parser.add_argument(
            "factory",
            metavar="FILE.py:FUNCTION",
            help="a function without arguments that returns (trainer, model) or (trainer, model, data), data being a data module "
            "or training loaders, or (trainer, model, training loaders, validation loaders)",
        )
        parser.add_argument("--at", type=int, default=3, help="the optimizer step after which to kill the run (default: 3)")
        parser.add_argument("--steps", type=int, help="optimizer steps in all (default: twice as many)")

    def run(self, args: Namespace) -> int:
        """Prints the first differences; the exit code is 1 if there are any.

        Raises:
            UsageError: there is no such file, or the runs cannot be made.
        """
        file, _, function = args.factory.rpartition(":")
        path = Path(file)
        if not path.is_file() or not function.isidentifier():
            raise UsageError(f"{args.factory!r}: expected FILE.py:FUNCTION, with the path of a file and a function in it")
        try:
            report = verify(lambda: _made_or_left(path, function), args.at, args.steps)
        except (ValueError, RuntimeError) as error:
            raise UsageError(str(error)) from None
        print(report)
        for difference in report.differences[1:_SHOWN]:
            print(f"  {difference}")
        return 0 if report else 1


def _made_or_left(path: Path, function: str) -> tuple[Trainer, dict[str, Any]]:
    """What the function makes, in a process of its own, which ends with a sentence where it makes nothing that can be run."""
    try:
        return _made(path, function)
    except UsageError as error:
        announce(f"verify-resume: {error}")
        raise SystemExit(2) from None


def _made(path: Path, function: str) -> tuple[Trainer, dict[str, Any]]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no file of Python; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # the workers of loaders find classes by it
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    factory = getattr(module, function, None)
    if not callable(factory):
        raise UsageError(f"{path} has no function {function!r}")
    made = factory()
    if not isinstance(made, tuple) or not 2 <= len(made) <= 4 or not isinstance(made[0], Trainer):
        raise UsageError(f"{function}() returned {made!r}; expected (trainer, model) or (trainer, model, data)")
    names = ("model", "train_dataloaders", "val_dataloaders")
    return made[0], dict(zip(names, made[1:], strict=False))
