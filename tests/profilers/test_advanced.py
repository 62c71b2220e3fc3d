"""AdvancedProfiler: which functions each action calls."""

from __future__ import annotations

import pstats
from typing import Any

import pytest
from leyden.testing import TinyModule
from leyden_profilers import AdvancedProfiler


def outer() -> None:
    inner()


def inner() -> None:
    pass


def after() -> None:
    pass


class Calling(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        outer()
        with self.trainer.profiler.profile("my block"):
            inner()
        after()
        return super().training_step(batch, batch_idx)


def calls(stats: Any) -> dict[str, int]:
    """How often each of this file's functions was called."""
    return {name: count for (path, _, name), (_, count, *_) in stats.stats.items() if path == __file__}


def test_each_action_has_a_table_of_the_functions_it_calls(quiet, capsys):
    trainer = quiet("advanced")
    trainer.fit(Calling())
    profiles = trainer.profiler.profiles
    step = calls(pstats.Stats(profiles["[Module]Calling.training_step"]))
    assert step == {"training_step": 4, "outer": 4, "inner": 4, "after": 4}
    assert calls(pstats.Stats(profiles["my block"])) == {"inner": 4}
    printed = capsys.readouterr().out
    assert "fit: [Module]Calling.training_step\n" in printed
    assert "fit: [Step]backward\n" in printed


def test_a_whole_run_has_one_table(quiet, capsys):
    trainer = quiet({"advanced": {"whole_run": True}})
    trainer.fit(Calling())
    assert list(trainer.profiler.profiles) == ["the whole run"]
    assert calls(pstats.Stats(trainer.profiler.profiles["the whole run"])) == {
        "training_step": 4,
        "outer": 4,
        "inner": 8,
        "after": 4,
    }
    assert capsys.readouterr().out.startswith("fit: the whole run\n")


def test_line_count_restriction_shortens_the_tables(quiet, capsys):
    trainer = quiet({"advanced": {"whole_run": True, "line_count_restriction": 3}})
    trainer.fit(TinyModule())
    lines = capsys.readouterr().out.splitlines()
    header = next(index for index, line in enumerate(lines) if line.lstrip().startswith("ncalls"))
    assert len([line for line in lines[header + 1 :] if line.strip()]) == 3


def test_dump_stats_writes_files_that_pstats_reads(quiet, tmp_path, capsys):
    quiet({"advanced": {"dirpath": tmp_path / "stats", "dump_stats": True}}).fit(Calling())
    names = {path.name for path in (tmp_path / "stats").iterdir()}
    assert {"fit-Module_Calling.training_step.prof", "fit-Step_backward.prof", "fit-my_block.prof"} <= names
    read = pstats.Stats(str(tmp_path / "stats" / "fit-Module_Calling.training_step.prof"))
    assert calls(read)["outer"] == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"line_count_restriction": "3"}, TypeError, "AdvancedProfiler(line_count_restriction='3'): expected a number of lines "
         "(int) or a fraction (float), got str '3'"),
        ({"line_count_restriction": 0}, ValueError, "AdvancedProfiler(line_count_restriction=0): expected an int >= 1 (lines) or "
         "a float above 0.0 and at most 1.0 (a fraction)"),
        ({"line_count_restriction": 1.5}, ValueError, "AdvancedProfiler(line_count_restriction=1.5): expected an int >= 1 "
         "(lines) or a float above 0.0 and at most 1.0 (a fraction)"),
        ({"dump_stats": "yes"}, TypeError, "AdvancedProfiler(dump_stats='yes'): expected True or False, got str 'yes'"),
        ({"whole_run": 1}, TypeError, "AdvancedProfiler(whole_run=1): expected True or False, got int 1"),
    ],
)  # fmt: skip
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error) as caught:
        AdvancedProfiler(**options)
    assert str(caught.value) == message
