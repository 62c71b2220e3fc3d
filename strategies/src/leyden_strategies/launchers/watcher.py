"""The process that a script becomes when it starts ranks: it starts them, watches them and ends as they do.

Run by its path, with the path of a file that says what to start; it imports neither leyden nor torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from board import remove  # type: ignore[import-not-found]  # beside this file, which is run by path
from watch import Watch, say_last  # type: ignore[import-not-found]  # beside this file, which is run by path


def main(plan_path: str) -> int:
    """Starts the ranks that the plan names; returns the exit code."""
    plan = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    directory = Path(plan["directory"])
    try:
        ranks = {
            int(rank): subprocess.Popen(plan["command"], env={**os.environ, **plan["variables"], **own})
            for rank, own in plan["ranks"].items()
        }
        pids = {rank: process.pid for rank, process in ranks.items()}
        watch = Watch(directory, pids, lambda rank: ranks[rank].poll(), plan["stall_seconds"])
        failure = watch.run()
        if failure is not None:
            say_last(failure, watch)
            return int(failure.code or 1)
        return next((code for code in (process.returncode for process in ranks.values()) if code), 0)
    finally:
        remove(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
