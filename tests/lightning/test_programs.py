"""The port does what Lightning 2.6.6 and 1.9.5 did: hooks, parameters, logged values, files; recorded by running them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import leyden_lightning as pl
import pytest

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("lightning_programs", HERE / "programs.py")
assert spec is not None
assert spec.loader is not None
programs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(programs)

RECORDED = {
    release: json.loads((HERE / f"recorded/programs-{release}.json").read_text(encoding="utf-8"))
    for release in ("2.6.6", "1.9.5")
}
CASES = [(name, release) for name, (releases, _) in programs.PROGRAMS.items() for release in releases]


@pytest.mark.filterwarnings("ignore::leyden.LeydenWarning")
@pytest.mark.parametrize(("name", "release"), CASES)
def test_the_port_does_what_lightning_did(name, release):
    ours, theirs = programs.run_program(name, pl), RECORDED[release][name]
    if name == "exceptions":  # leyden's own class, and Lightning's too
        ours = {case: [kind for kind in found if kind in theirs[case]] for case, found in ours.items()}
    assert ours == theirs


def test_every_program_was_recorded_for_every_release_that_can_run_it():
    assert {release: sorted(found) for release, found in RECORDED.items()} == {
        release: sorted(name for name, (releases, _) in programs.PROGRAMS.items() if release in releases) for release in RECORDED
    }
