"""The ``leyden`` command, whose subcommands are plug-ins."""

from leyden_cli.command import Command, UsageError
from leyden_cli.main import main

__all__ = ["Command", "UsageError", "main"]
