"""``leyden plugins``: what is installed, which names it brings, and what is wrong with it."""

from __future__ import annotations

import json
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict

from leyden.plugins import DISABLE_VARIABLE, HOOK_GROUP

from leyden_cli.command import Command
from leyden_cli.inventory import ConflictReport, DistributionReport, Inventory, PluginReport, take


class PluginsCommand(Command):
    """Lists installed plug-ins by distribution."""

    help = "what is installed: names, hooks, import times, errors and conflicts"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Takes ``--json``."""
        parser.add_argument("--json", action="store_true", help="the same as one JSON object on standard output")

    def run(self, args: Namespace) -> int:
        """Prints the list; 1 if a plug-in is broken or a name has two claimants."""
        inventory = take()
        if args.json:
            print(json.dumps(asdict(inventory), indent=2))
        else:
            print("\n\n".join("\n".join(block) for block in _blocks(inventory)))
        broken = any(plugin.error for owner in inventory.distributions for plugin in owner.plugins)
        return int(broken or bool(inventory.conflicts))


def _blocks(inventory: Inventory) -> Iterator[list[str]]:
    for owner in inventory.distributions:
        yield list(_distribution(owner))
    yield ["times are those of the import after leyden's own; a module that several need counts for the first of them"]
    if inventory.conflicts:
        yield ["names that several distributions claim:", *(f"  {_conflict(conflict)}" for conflict in inventory.conflicts)]


def _distribution(owner: DistributionReport) -> Iterator[str]:
    yield f"{owner.distribution} {owner.version}"
    group, width = "", max((len(plugin.name) for plugin in owner.plugins), default=0) + 1
    for plugin in owner.plugins:
        shown = "" if plugin.group == group else _heading(plugin.group)
        group = plugin.group
        yield f"  {shown:<14}{plugin.name:<{width}}{_state(plugin)}"
        if plugin.hooks:
            yield from textwrap.wrap(
                f"hooks: {', '.join(plugin.hooks)}", 100, initial_indent=" " * 18, subsequent_indent=" " * 20
            )


def _heading(group: str) -> str:
    return "in every run" if group == HOOK_GROUP else group.removeprefix(HOOK_GROUP + ".")


def _state(plugin: PluginReport) -> str:
    if plugin.disabled:
        return f"switched off by {DISABLE_VARIABLE}"
    if plugin.error:
        return f"BROKEN  {plugin.value}: {plugin.error}"
    return f"{plugin.import_ms:7.1f} ms  {plugin.value}"


def _conflict(conflict: ConflictReport) -> str:
    return f"{_heading(conflict.group)} {conflict.name!r}: choose {' or '.join(repr(name) for name in conflict.claimants)}"
