"""The process that watches ranks which torchrun or a scheduler started: it speaks of stalls and ends what is left.

Run by its path, with the directory of the ranks' files and the seconds of a stall.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from watch import Watch, say_last  # type: ignore[import-not-found]  # beside this file, which is run by path


def _ended(pid: int) -> int | None:
    """0 if a process that is not ours is gone, for how it ended its parent knows; None while it runs."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] in "ZX":
            return 0
    except (ProcessLookupError, OSError):
        return 0
    return None


def main(directory: str, stall_seconds: float) -> int:
    """Returns when no rank of this node is left."""
    place = Path(directory)
    pids: dict[int, int] = {}
    for path in place.glob("rank-*.process"):
        found = json.loads(path.read_text(encoding="utf-8"))
        pids[int(found["rank"])] = int(found["pid"])
    try:
        watch = Watch(place, pids, lambda rank: _ended(pids[rank]), stall_seconds, forwards=False)
        failure = watch.run()
        if failure is not None and (watch.stacks or not failure.follows):
            say_last(failure, watch)
        return 0
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
