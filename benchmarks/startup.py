"""How long a user waits before the first step: importing the library, and from ``Trainer(...)`` to the first ``training_step``.

Each measurement is a fresh process, and the contestants take turns. What a process needs whatever the library is there
before the clock starts: torch, and for the second question the library itself, TensorBoard's client and a first, throw-away
step by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

LIBRARIES = {"leyden": ("leyden", "leyden-core"), "Lightning": ("lightning.pytorch", "lightning")}

IMPORT = """
import time, torch
start = time.perf_counter()
import {module}
print((time.perf_counter() - start) * 1e3)
"""

FIRST_STEP = """
import sys
sys.path.insert(0, {here!r})
from startup import first_step
print(first_step({module!r}))
"""


def first_step(name: str) -> float:
    """Milliseconds from ``Trainer(...)`` with default features to the first ``training_step``; run in a process of its own."""
    import importlib
    import logging
    import warnings
    from contextlib import redirect_stderr, redirect_stdout, suppress

    import torch
    from loop_overhead import Clock, Sink, hand_written, make_module

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    library: Any = importlib.import_module(name)
    if find_spec("tensorboard") is not None:
        import torch.utils.tensorboard  # loading the client is no library's doing
    hand_written(Clock(0, 1))

    class Started(Exception):
        pass

    module = make_module(getattr(library, "Module", None) or library.LightningModule, Clock(0, 1), logs=True)
    seen: list[float] = []

    def training_step(batch: Any, batch_idx: int) -> None:
        seen.append(time.perf_counter())
        raise Started

    module.training_step = training_step
    with tempfile.TemporaryDirectory() as directory, redirect_stdout(Sink()), redirect_stderr(Sink()):
        os.chdir(directory)
        start = time.perf_counter()
        trainer = library.Trainer(accelerator="cpu", max_epochs=1)
        with suppress(Started):
            trainer.fit(module, Clock(0, 1).loader())
        os.chdir("/")
    return (seen[0] - start) * 1e3


def milliseconds(program: str, cache: str) -> float:
    # Compiled modules are kept, as they are for everybody, but in a place of their own.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return float(result.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="processes of each kind (default 7)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()

    here = __file__.rpartition("/")[0] or "."
    programs: dict[str, str] = {}
    for name, (module, distribution) in LIBRARIES.items():
        try:
            version(distribution)
        except PackageNotFoundError:
            print(f"left out: {name} ({distribution} is not installed)", file=sys.stderr)
            continue
        programs[f"import {name}, after torch"] = IMPORT.format(module=module)
        programs[f"{name}: Trainer(...) to the first training_step"] = FIRST_STEP.format(here=here, module=module)
    times: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as cache:
        for program in programs.values():  # compiles what is not compiled yet
            milliseconds(program, cache)
        for index in range(arguments.rounds):
            print(f"round {index + 1} of {arguments.rounds}", end="\r", file=sys.stderr)
            for name, program in programs.items():
                times[name].append(milliseconds(program, cache))

    figures = {
        name: {"median_ms": round(statistics.median(values), 1), "fastest_ms": round(min(values), 1)}
        for name, values in times.items()
    }
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{'milliseconds':50}{'median':>9}{'fastest':>9}   of {arguments.rounds} processes")
    for name, row in figures.items():
        print(f"{name:50}{row['median_ms']:9.1f}{row['fastest_ms']:9.1f}")


if __name__ == "__main__":
    main()
