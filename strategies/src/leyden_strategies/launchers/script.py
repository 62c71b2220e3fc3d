"""Starts the ranks as runs of the script that is running, and becomes the process that watches them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden.interrupts import in_notebook

from leyden_strategies.launchers.board import RUN_DIRECTORY

if TYPE_CHECKING:
    from leyden_strategies.processes import ProcessesStrategy


class ScriptLauncher:
    """Runs the script once for each device of this node; this process never returns from the run.

    The process becomes the one that watches the ranks (its memory, devices and threads are free then) and ends with their
    exit code, so that whoever started the script waits for the whole run and has one process to signal.
    """

    in_place = True

    def launch(self, strategy: ProcessesStrategy, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Starts the ranks.

        Raises:
            RuntimeError: there is no script to run again.
        """
        name = strategy.name
        if in_notebook():
            raise RuntimeError(
                f"strategy={name!r} starts its processes by running the script again, and a notebook cell is none; "
                f"use strategy='ddp_notebook', or 'auto'"
            )
        command = script_command()
        if command is None:
            raise RuntimeError(
                f"strategy={name!r} starts its processes by running the script again, but this interpreter reads its code from "
                f"a prompt or from standard input; put it into a file, or use strategy='ddp_fork'"
            )
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"strategy={name!r} can start its processes from the main thread only; use strategy='ddp_spawn'")
        replace_by_watcher(command, len(strategy.device_indices), strategy.num_nodes, strategy.stall_seconds)
        raise AssertionError("this process was replaced")


def script_command() -> list[str] | None:
    """The words that run this script again, options of the interpreter included; None if there is no script."""
    words = list(sys.orig_argv[1:])
    if hasattr(sys, "ps1") or sys.flags.interactive or not sys.argv or sys.argv[0] in ("", "-"):
        return None
    if sys.argv[0] != "-c" and sys.argv[0] in words:
        words[words.index(sys.argv[0])] = str(Path(sys.argv[0]).absolute())  # the script may have changed its directory
    return [sys.executable, *words]


def replace_by_watcher(
    command: list[str],
    num_devices: int,
    num_nodes: int,
    stall_seconds: float,
    variables: Mapping[str, str] | None = None,
    max_restarts: int = 0,
) -> None:
    """Replaces this process by one that runs ``command`` for each device of this node and watches it.

    Args:
        command: what each rank runs.
        num_devices: ranks on each node.
        num_nodes: nodes of the run; with several, ``NODE_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` say which this is and
            where rank 0 listens.
        stall_seconds: how long no rank may move.
        variables: more of the environment.
        max_restarts: how often all ranks are started again when one has failed.

    Raises:
        ValueError: there are several nodes, and one of the variables is not set.
    """
    environment = {**os.environ, **(variables or {})}
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if num_nodes > 1 and missing:
        raise ValueError(
            f"num_nodes={num_nodes}, and the variables {', '.join(missing)} are not set; start the script on each node with "
            f"NODE_RANK (from 0), MASTER_ADDR (a name of node 0) and MASTER_PORT (a free port there), or by torchrun or srun"
        )
    node_rank = int(environment["NODE_RANK"]) if num_nodes > 1 else 0
    directory = Path(tempfile.mkdtemp(prefix="leyden-"))
    common = {
        **(variables or {}),
        RUN_DIRECTORY: str(directory),
        "WORLD_SIZE": str(num_devices * num_nodes),
        "LOCAL_WORLD_SIZE": str(num_devices),
        "NODE_RANK": str(node_rank),
    }
    ranks = {
        str(node_rank * num_devices + local_rank): {
            "RANK": str(node_rank * num_devices + local_rank),
            "LOCAL_RANK": str(local_rank),
        }
        for local_rank in range(num_devices)
    }
    plan = {
        "directory": str(directory),
        "command": command,
        "variables": common,
        "ranks": ranks,
        "stall_seconds": stall_seconds,
        "max_restarts": max_restarts,
    }
    path = directory / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    watcher = Path(__file__).with_name("watcher.py")
    os.execv(sys.executable, [sys.executable, "-S", str(watcher), str(path)])
