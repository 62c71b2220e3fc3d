"""``leyden doctor``."""

from __future__ import annotations

import leyden
import pytest
from leyden_cli import main, selftest


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Puts a precision of the given source on the path, registered as ``odd``."""

    def stranger(source):
        folder = tmp_path / "odd"
        info = folder / "odd-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[leyden.precisions]\nodd = odd_parts:Odd\n")
        (folder / "odd_parts.py").write_text(f"import leyden\nclass Odd(leyden.Precision):\n{source}")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(__import__("sys").modules, "odd_parts", raising=False)

    return stranger


def outcome_of(part):
    (outcome,) = [outcome for outcome in selftest.outcomes() if outcome.part == part]
    return outcome.state, outcome.detail


def test_everything_that_is_installed_works_here(capsys):
    assert main(["doctor"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"leyden-core {leyden.__version__}" in lines
    assert lines[-1] == "everything that can work on this machine works"
    assert any(line.startswith("precision bf16, bf16-mixed ok loss") for line in lines)
    assert any(line.startswith("logger csv ok loss") for line in lines)
    assert "logger webhook not here it cannot be tried without its option 'url'" in lines
    assert not any(line.startswith("step 0") for line in lines), "the terminal has what a logger printed"


def test_nothing_stays_behind(isolated):
    list(selftest.outcomes())
    assert list(isolated.iterdir()) == []


def test_a_part_that_fails_is_named_and_makes_the_exit_code_1(stranger, capsys):
    stranger("    def convert_module(self, module):\n        raise RuntimeError('no such numbers')\n")
    assert main(["doctor"]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "precision odd failed RuntimeError: no such numbers" in lines
    assert lines[-1] == "1 of the parts above failed"


def test_a_part_that_this_machine_cannot_serve_is_no_failure(stranger):
    stranger("    def check(self, optimizers, device_type):\n        raise ValueError(f'not on {device_type}')\n")
    assert outcome_of("precision odd") == ("not here", "not on cpu")


def test_losses_that_are_not_numbers_are_a_failure(stranger):
    stranger("    def wrap_step(self, step, device_type):\n        return lambda *a, **k: step(*a, **k)\n"
             "    def step(self, optimizer, closure=None):\n"
             "        for p in optimizer.param_groups[0]['params']: p.data.fill_(float('nan'))\n"
             "        return True\n")  # fmt: skip
    state, detail = outcome_of("precision odd")
    assert state == "failed"
    assert detail.startswith("RuntimeError: the losses are not all finite: [")
