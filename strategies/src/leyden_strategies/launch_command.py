"""``leyden launch``: runs a script once for each device and watches the processes."""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from pathlib import Path

from leyden.messages import announce

from leyden_strategies.launchers.script import replace_by_watcher


class LaunchCommand:
    """Starts the ranks of a node; when one fails, all are ended and the cause is said last."""

    help = "run a script once for each device, watched: leyden launch --devices 2 train.py"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Adds the command's options."""
        parser.add_argument("--devices", type=int, default=1, metavar="N", help="processes on this node")
        parser.add_argument("--num-nodes", type=int, default=1, metavar="N", help="nodes of the run; start one launch on each")
        parser.add_argument("--node-rank", type=int, default=0, metavar="R", help="this node, from 0")
        parser.add_argument("--main-address", default="127.0.0.1", metavar="HOST", help="a name of node 0")
        parser.add_argument("--main-port", type=int, default=29500, metavar="PORT", help="a free port of node 0")
        parser.add_argument(
            "--max-restarts", type=int, default=0, metavar="N", help="start all again so often when a rank fails (0)"
        )
        parser.add_argument(
            "--timeout", type=float, default=1800.0, metavar="S", help="seconds that no rank may move before all are ended (1800)"
        )
        parser.add_argument("-m", dest="module", action="store_true", help="the script is the name of a module")
        parser.add_argument("script", help="the script, and behind it its own arguments")
        parser.add_argument("arguments", nargs=REMAINDER, help="arguments of the script")

    def run(self, args: Namespace) -> int:
        """Becomes the process that watches the ranks; returns only if they cannot be started."""
        for option in ("devices", "num_nodes"):
            if getattr(args, option) < 1:
                announce(f"launch: --{option.replace('_', '-')} {getattr(args, option)}: expected at least 1")
                return 2
        if not 0 <= args.node_rank < args.num_nodes:
            announce(
                f"launch: --node-rank {args.node_rank}: expected 0 to {args.num_nodes - 1}, for --num-nodes {args.num_nodes}"
            )
            return 2
        if not args.module and not Path(args.script).is_file():
            announce(f"launch: there is no file {args.script!r}; a module is started by leyden launch -m {args.script}")
            return 2
        variables = {}
        if args.num_nodes > 1:
            variables = {
                "NODE_RANK": str(args.node_rank), "MASTER_ADDR": args.main_address, "MASTER_PORT": str(args.main_port),
            }  # fmt: skip
        command = [sys.executable, *(["-m"] if args.module else []), args.script, *args.arguments]
        os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // args.devices, 1)))
        replace_by_watcher(command, args.devices, args.num_nodes, args.timeout, variables, args.max_restarts)
        raise AssertionError("this process was replaced")
