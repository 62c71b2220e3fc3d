"""How ``leyden`` finds the subcommand that was typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import leyden
import pytest
from leyden_cli import main


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with entry points and one module on the path, as an installer would."""

    def install(distribution: str, entry_points: str, module: str = "", source: str = "") -> None:
        folder = tmp_path / distribution
        info = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(entry_points)
        if module:
            (folder / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))

    return install


def test_without_a_word_the_commands_are_listed(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: leyden <command> [options]"
    assert {"doctor", "hooks", "plugins"} <= {line.split()[0] for line in lines if line.startswith("  ")}


def test_version_is_that_of_core(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"leyden {leyden.__version__}\n"


def test_a_mistyped_command_gets_the_nearest_one(capsys):
    assert main(["plugin"]) == 2
    assert capsys.readouterr().err == (
        "leyden: plugin: unknown command 'plugin'; did you mean 'plugins'? "
        "Installed: 'ckpt', 'doctor', 'hooks', 'launch', 'plugins', 'port', 'run', 'verify-resume'\n"
    )


def test_a_strangers_object_with_the_three_members_is_a_command(install, capsys):
    source = """
class Greet:
    help = "greets"
    def add_arguments(self, parser):
        parser.add_argument("whom")
    def run(self, args):
        print("hello", args.whom)
        return 5
made = Greet()
"""
    install("greeter", "[leyden.commands]\ngreet = greeter_a:Greet\nmade = greeter_a:made\n", "greeter_a", source)
    assert main(["greet", "you"]) == 5
    assert main(["made", "me"]) == 5
    assert capsys.readouterr().out == "hello you\nhello me\n"


def test_a_broken_command_is_named_in_the_list_and_spoils_no_other(install, capsys):
    install("breaker", "[leyden.commands]\nsmash = breaker_a:Smash\n", "breaker_a", "import nobody_has_this\n")
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "broken, and left out:",
        "  smash           plug-in 'smash' (leyden.commands) of breaker 1.2 cannot be imported from 'breaker_a:Smash': "
        "ModuleNotFoundError: No module named 'nobody_has_this'",
    ]
    assert main(["hooks", "predict"]) == 0


def test_a_broken_command_that_was_typed_says_why(install, capsys):
    install("breaker", "[leyden.commands]\nsmash = breaker_b:Smash\n", "breaker_b", "import nobody_has_this\n")
    assert main(["smash"]) == 2
    assert capsys.readouterr().err == (
        "leyden: plug-in 'smash' (leyden.commands) of breaker 1.2 cannot be imported from 'breaker_b:Smash': "
        "ModuleNotFoundError: No module named 'nobody_has_this'\n"
    )


def test_what_is_no_command_is_told_what_it_lacks(install, capsys):
    install("lacker", "[leyden.commands]\nlack = lacker_a:Lack\n", "lacker_a", "class Lack:\n    help = 'x'\n")
    assert main(["lack"]) == 2
    assert capsys.readouterr().err == (
        "leyden: plug-in 'lack' (leyden.commands) of lacker 1.2 is no command: 'lacker_a:Lack' has no 'add_arguments', 'run'\n"
    )


def test_of_two_claimants_one_is_chosen_by_its_full_name(install, capsys):
    source = "class C:\n    help = 'mine'\n    def add_arguments(self, p): ...\n    def run(self, a): return 7\n"
    install("claimer", "[leyden.commands]\nhooks = claimer_a:C\n", "claimer_a", source)
    assert main(["hooks"]) == 2
    assert capsys.readouterr().err == (
        "leyden: hooks: command='hooks' is registered by claimer and leyden-cli; "
        "choose with command='hooks@claimer' or command='hooks@leyden-cli'\n"
    )
    assert main(["hooks@claimer"]) == 7
    assert main(["--help"]) == 0
    assert "  hooks@claimer   mine\n" in capsys.readouterr().out


def test_a_commands_own_exception_is_not_hidden(install):
    source = "class C:\n    help = ''\n    def add_arguments(self, p): ...\n    def run(self, a): return {}['gone']\n"
    install("raiser", "[leyden.commands]\nraise = raiser_a:C\n", "raiser_a", source)
    with pytest.raises(KeyError, match="gone"):
        main(["raise"])


def test_the_installed_script_runs():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "leyden"), "hooks", "fitt"], capture_output=True, text=True, timeout=250, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "leyden: hooks: there is no stage 'fitt'; stages are fit, validate, test, predict\n"


def test_nothing_is_said_when_nobody_reads_on():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "leyden"), "hooks"], stdout=writer, stderr=subprocess.PIPE, timeout=250, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
