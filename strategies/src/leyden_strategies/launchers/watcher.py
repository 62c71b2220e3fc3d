"""The process that a script becomes when it starts ranks: it starts them, watches them and ends as they do.

Run by its path, with the path of a file that says what to start; it imports neither leyden nor torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from board import RUN_DIRECTORY, WATCHER, remove  # type: ignore[import-not-found]  # beside this file, which is run by path
from report import say_last, was_signalled  # type: ignore[import-not-found]  # beside this file, which is run by path
from watch import Watch, listening  # type: ignore[import-not-found]  # beside this file, which is run by path


def main(plan_path: str) -> int:
    """Starts the ranks that the plan names, again if the plan says so; returns the exit code."""
    plan = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    directory = Path(plan["directory"])
    try:
        for attempt in range(plan["max_restarts"] + 1):
            files = directory / str(attempt)  # what the ranks of an earlier attempt wrote says nothing of these
            files.mkdir()
            code, failed = run(plan, files)
            if not failed or attempt == plan["max_restarts"]:
                return code
            print(f"leyden: all ranks start again ({attempt + 1} of {plan['max_restarts']})", file=sys.stderr, flush=True)
    finally:
        remove(directory)
    raise AssertionError("the loop returns")


def run(plan: dict[str, Any], files: Path) -> tuple[int, bool]:
    """Starts the ranks once; returns the exit code, and whether one failed."""
    variables = {**os.environ, **plan["variables"], RUN_DIRECTORY: str(files), WATCHER: str(os.getpid())}
    with listening() as received:
        ranks = {int(rank): subprocess.Popen(plan["command"], env={**variables, **own}) for rank, own in plan["ranks"].items()}
        pids = {rank: process.pid for rank, process in ranks.items()}
        watch = Watch(files, pids, lambda rank: ranks[rank].poll(), plan["stall_seconds"], received)
        failure = watch.run()
    if failure is not None:
        say_last(failure, watch)
        return int(failure.code or 1), not was_signalled(failure)
    return next((code for code in (process.returncode for process in ranks.values()) if code), 0), False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
