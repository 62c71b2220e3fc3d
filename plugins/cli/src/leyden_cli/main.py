"""The ``leyden`` command: finds the subcommand that was typed and runs it."""

from __future__ import annotations

import os
import select
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import metadata
from typing import cast

from leyden import plugins
from leyden.messages import announce, listed

from leyden_cli.command import Command, UsageError

_MEMBERS = ("help", "add_arguments", "run")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``leyden <command> ...``.

    Args:
        argv: the words after ``leyden``; those of this process if not given.

    Returns:
        The exit code: 0, 1 if the command found something wrong, 2 if it could not be run as typed, 141 if nobody reads on.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help"):
        print("\n".join(_overview()))
        return 0
    if words[0] == "--version":
        print(f"leyden {metadata.version('leyden-core')}")
        return 0
    name, *rest = words
    try:
        command = _load(_find(name))
        parser = ArgumentParser(prog=f"leyden {name}", description=command.help)
        command.add_arguments(parser)
        code = command.run(parser.parse_args(rest))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 128 + signal.SIGPIPE
    except UsageError as error:
        announce(f"{name}: {error}")
    except plugins.PluginError as error:
        announce(str(error))
    return 2


def _reader_is_gone() -> bool:
    """Whether whoever read the output has enough, as in ``leyden hooks | head``; what else is printed then goes nowhere."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)  # an error is told of in any case
    if not output.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the interpreter's end
    return True


def _find(name: str) -> plugins.Plugin:
    try:
        found = plugins.find(Command, name)
    except LookupError as error:
        raise UsageError(str(error)) from None
    assert found is not None  # core has no command of its own
    return found


def _load(plugin: plugins.Plugin) -> Command:
    """The command of an entry point.

    Raises:
        PluginError: it cannot be imported, or what it names is no command.
    """
    loaded = plugin.load()
    command = loaded() if isinstance(loaded, type) else loaded
    missing = [member for member in _MEMBERS if not hasattr(command, member)]
    if missing:
        raise plugins.PluginError(
            f"plug-in {plugin.name!r} ({plugin.group}) of {plugin.distribution} {plugin.version} is no command: "
            f"{plugin.value!r} has no {listed(missing)}"
        )
    return cast("Command", command)  # whoever has the three members is one


def _overview() -> list[str]:
    lines = ["usage: leyden <command> [options]", "       leyden <command> --help", "", "commands:"]
    found = plugins.available(Command.group)
    names = [plugin.name for plugin in found]
    broken = []
    for plugin in found:
        # Two distributions may claim one name; either is then reached by its full name.
        name = plugin.name if names.count(plugin.name) == 1 else f"{plugin.name}@{plugin.distribution}"
        try:
            lines.append(f"  {name:<16}{_load(plugin).help}")
        except Exception as error:  # a stranger's command must not take the others down
            broken.append(f"  {name:<16}{error}")
    return [*lines, *(["", "broken, and left out:", *broken] if broken else [])]
