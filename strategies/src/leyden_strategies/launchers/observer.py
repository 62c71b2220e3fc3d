"""The process that watches ranks which torchrun or a scheduler started: it speaks of stalls and ends what is left.

Run by its path, with the directory of the ranks' files and the seconds of a stall.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from board import END, remove  # type: ignore[import-not-found]  # beside this file, which is run by path
from exits import Exits  # type: ignore[import-not-found]  # beside this file, which is run by path
from report import GONE, say_last  # type: ignore[import-not-found]  # beside this file, which is run by path
from tree import is_running  # type: ignore[import-not-found]  # beside this file, which is run by path
from watch import Watch  # type: ignore[import-not-found]  # beside this file, which is run by path


def main(directory: str, stall_seconds: float) -> int:
    """Returns when no rank of this node is left."""
    place = Path(directory)
    pids: dict[int, int] = {}
    parents: set[int] = set()
    for path in place.glob("rank-*.process"):
        found = json.loads(path.read_text(encoding="utf-8"))
        pids[int(found["rank"])] = int(found["pid"])
        parents.add(int(found["parent"]))

    def ended(rank: int) -> int | None:
        if is_running(pids[rank]):
            return None
        code: int | None = exits.code(pids[rank])
        if watch.position(rank).phase != END:
            return GONE if code is None else code
        # It has gone through the end of its run: its script may have caught its exception, and whoever started it told it to end.
        if watch.report(rank) is None:
            return 0
        return 1 if code is None or code < 0 else code

    exits = Exits(pids.values())
    try:
        watch = Watch(place, pids, ended, stall_seconds)
        failure = watch.run()
        if failure is not None and (watch.stacks or not failure.follows):
            deadline = time.monotonic() + 4.0  # whoever started the ranks speaks first, so that the cause stands last
            while time.monotonic() < deadline and any(is_running(parent) for parent in parents):
                time.sleep(0.05)
            say_last(failure, watch)
        return 0
    finally:
        remove(place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
