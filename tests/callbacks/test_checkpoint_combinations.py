"""What holds for ModelCheckpoint whatever its arguments, resumed in the same, another or a moved directory."""

import json
import math
import shutil
import tempfile
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leyden import Trainer
from leyden.testing import TinyModule
from leyden_callbacks import ModelCheckpoint

STEPS = 2  # an epoch


class Scores(TinyModule):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def train_dataloader(self):
        return [batch for _, batch in zip(range(STEPS), super().train_dataloader(), strict=False)]

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.log("score", self.scores[self.current_epoch])


@st.composite
def arguments(draw):
    monitor = draw(st.sampled_from([None, "score"]))
    return {
        "monitor": monitor,
        "mode": draw(st.sampled_from(["min", "max"])),
        "save_top_k": draw(st.integers(-1, 3 if monitor else 1)),
        "save_last": draw(st.sampled_from([None, True, "link"])),
        "enable_version_counter": draw(st.booleans()),
        "save_on_train_epoch_end": draw(st.sampled_from([None, True, False])),
        "filename": draw(st.sampled_from([None, "{epoch}-{step}", "sub/{step}"])),
        draw(st.sampled_from(["every_n_epochs", "every_n_train_steps"])): draw(st.integers(1, 3)),
    }


def run(arguments, scores, folder, max_epochs, ckpt_path=None):
    checkpoint = ModelCheckpoint(dirpath=folder, **arguments)
    trainer = Trainer(
        callbacks=[checkpoint],
        accelerator="cpu",
        logger=False,
        max_epochs=max_epochs,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scores(scores), ckpt_path=ckpt_path)
    return checkpoint


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {"checkpoints.json"}


def check(checkpoint, arguments, scores, folder):
    """Of a run that began in ``folder`` or went on there: what is there, and what a new process would make of it."""
    files = names(folder)
    kept = {Path(path).relative_to(folder).as_posix() for path in checkpoint.best_k_models}
    last = {Path(checkpoint.last_model_path).relative_to(folder).as_posix()} if checkpoint.last_model_path else set()
    assert files == kept | last, "exactly k and the last one are there"
    assert arguments["save_top_k"] < 0 or len(kept) <= arguments["save_top_k"]

    text = (folder / "checkpoints.json").read_text() if files else '{"checkpoints": []}'
    listed = {entry["name"]: entry for entry in json.loads(text)["checkpoints"] if entry["kind"] not in ("obsolete", "elsewhere")}
    assert set(listed) == files, "the list has exactly what is there"
    assert str(folder.parent) not in text, "no absolute path"
    states = {name: torch.load(folder / name) for name in files}
    for name, state in states.items():
        assert str(folder.parent) not in repr(state["callbacks"])
        assert listed[name]["step"] == state["global_step"]

    fresh = ModelCheckpoint(dirpath=folder, **arguments)
    assert fresh.resolve_checkpoint("last") == checkpoint.resolve_checkpoint("last")
    if not arguments["save_top_k"]:
        assert fresh.resolve_checkpoint("best") is None
    elif checkpoint.best_model_path:
        assert fresh.resolve_checkpoint("best") == checkpoint.best_model_path
    if last:
        # The newest state is that of the last step, for every epoch ends with a moment at which it is saved.
        assert states[last.pop()]["global_step"] == STEPS * len(scores)
    if files:
        assert torch.load(checkpoint.resolve_checkpoint("last"))["global_step"] == max(s["global_step"] for s in states.values())
    if arguments["monitor"] and kept:
        seen = [scores[states[Path(path).relative_to(folder).as_posix()]["epoch"]] for path in checkpoint.best_k_models]
        assert [round(score.item(), 4) for score in checkpoint.best_k_models.values()] == [round(score, 4) for score in seen]


def check_best(checkpoint, arguments, scores):
    every_epoch = arguments.get("every_n_epochs") == 1 or arguments.get("every_n_train_steps", 9) <= STEPS
    if arguments["monitor"] and arguments["save_top_k"] and every_epoch:
        best = min(scores) if arguments["mode"] == "min" else max(scores)
        assert math.isclose(checkpoint.best_model_score.item(), best, rel_tol=1e-6), "the best is the best seen"


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    arguments(),
    st.lists(st.floats(0.125, 8, width=16), min_size=4, max_size=4, unique=True),
    st.sampled_from(["same", "moved", "another", "an older one"]),
)
def test_promise_7_best_last_and_nothing_else_are_there_before_and_after_a_resume(arguments, scores, where):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "first"
        folder.mkdir()
        (folder / "of-the-user.ckpt").write_text("not ours")  # no list has it
        first = run(arguments, scores, folder, max_epochs=2)
        assert (folder / "of-the-user.ckpt").read_text() == "not ours"
        (folder / "of-the-user.ckpt").unlink()
        check(first, arguments, scores[:2], folder)
        check_best(first, arguments, scores[:2])
        newest = first.resolve_checkpoint("last")
        if newest is None:
            return
        there = Path(name).resolve() / "second"
        if where == "moved":
            shutil.move(folder, there)
            newest = newest.replace(str(folder), str(there), 1)
            folder = there
        elif where == "an older one":
            newest = min(first.best_k_models or [newest], key=lambda path: torch.load(path)["global_step"])
        before = names(folder)
        target = there if where == "another" else folder
        second = run(arguments, scores, target, max_epochs=4, ckpt_path=newest)
        check(second, arguments, scores, target)
        check_best(second, arguments, scores)
        if where == "another":
            assert names(folder) == before, "nothing is deleted where the run came from"
