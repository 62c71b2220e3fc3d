"""``leyden hooks``: the calls of a run in the order in which they happen."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from leyden import hookspecs

from leyden_cli.command import Command, UsageError

STAGES = ("fit", "validate", "test", "predict")


class HooksCommand(Command):
    """Prints what a run calls, first to last, and on whom."""

    help = "the calls of a run, in the order in which they happen"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Takes the stages to show."""
        parser.add_argument("stage", nargs="*", help=f"which runs: {', '.join(STAGES)}; all of them if none is given")

    def run(self, args: Namespace) -> int:
        """Prints one block of lines for each stage.

        Raises:
            UsageError: there is no such stage.
        """
        try:
            blocks = ["\n".join(hookspecs.describe(stage)) for stage in args.stage or STAGES]
        except LookupError as error:
            raise UsageError(str(error)) from None
        print("\n\n".join(blocks))
        return 0
