"""``leyden run``: a script written for Lightning, unchanged."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from typing import ClassVar

from leyden_lightning.running.script import ScriptError, run_script


class RunCommand:
    """Runs a script whose imports of Lightning mean the port."""

    help: ClassVar[str] = "runs a script written for PyTorch Lightning, without an edit"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Takes the script and its arguments."""
        parser.add_argument("-m", dest="module", action="store_true", help="run a module, as `python -m` does")
        parser.add_argument("script", nargs="?", help="a script, or with -m a module")
        parser.add_argument("arguments", nargs=REMAINDER, default=[], help="its arguments")

    def run(self, args: Namespace) -> int:
        """Runs it; its exit code is the command's, and 2 if there is none."""
        words = [args.script, *args.arguments] if args.script is not None else []
        try:
            run_script(["-m", *words] if args.module else words)
        except ScriptError as error:
            print(f"leyden run: {error}", file=sys.stderr)
            return 2
        return 0
