"""What a subcommand of ``leyden`` is."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import ClassVar

from leyden.component import Component


class UsageError(Exception):
    """What was typed cannot be done; ``leyden`` prints the message, without a traceback, and exits with 2."""


class Command(Component):
    """Does nothing; subclasses override what differs.

    A distribution offers a command by an entry point of the group ``leyden.commands``: its name is the word after
    ``leyden``, its object a class, which is made without arguments, or an instance. Any object with this class's three
    members is a command; nobody need depend on leyden-cli to bring one.
    """

    group = "leyden.commands"
    kind = "command"

    help: ClassVar[str] = ""
    """One line for ``leyden --help``."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Adds what the command takes; ``parser`` is its own."""

    def run(self, args: Namespace) -> int:
        """Does the work.

        Returns:
            The exit code: 0 if all is well, 1 if what was looked at is not.

        Raises:
            UsageError: the arguments fit the parser but not the world.
        """
        return 0
