"""What holds for ModelCheckpoint whatever its arguments."""

import math
import tempfile
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leyden import Trainer
from leyden.testing import TinyModule
from leyden_callbacks import ModelCheckpoint


class Scores(TinyModule):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def train_dataloader(self):
        return [batch for _, batch in zip(range(2), super().train_dataloader(), strict=False)]

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


def check(checkpoint, arguments, scores, folder):
    files = {path.name for path in folder.glob("*")}
    kept = {Path(path).name for path in checkpoint.best_k_models}
    last = {Path(checkpoint.last_model_path).name} if checkpoint.last_model_path else set()
    assert files == kept | last
    assert arguments["save_top_k"] < 0 or len(kept) <= arguments["save_top_k"]
    if last:
        # The newest state is that of the last step, for every epoch ends with a moment at which it is saved.
        assert torch.load(checkpoint.last_model_path)["global_step"] == 2 * len(scores)
    if arguments["monitor"] and kept:
        best = min(scores) if arguments["mode"] == "min" else max(scores)
        seen = [scores[torch.load(path)["epoch"]] for path in checkpoint.best_k_models]
        assert [round(score.item(), 4) for score in checkpoint.best_k_models.values()] == [round(score, 4) for score in seen]
        if arguments.get("every_n_epochs") == 1 or arguments.get("every_n_train_steps", 9) <= 2:
            assert math.isclose(checkpoint.best_model_score.item(), best, rel_tol=1e-6)
    for path in folder.glob("*.ckpt"):
        assert str(folder) not in repr(torch.load(path)["callbacks"])


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(arguments(), st.lists(st.floats(0.125, 8, width=16), min_size=4, max_size=4, unique=True))
def test_only_the_best_and_the_last_are_there_before_and_after_a_resume(arguments, scores):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = run(arguments, scores, folder, max_epochs=2)
        check(first, arguments, scores[:2], folder)
        newest = first.resolve_checkpoint("last")
        if newest is None:
            return
        # The newest file knows of every other one, so the resumed run leaves none behind.
        second = run(arguments, scores, folder, max_epochs=4, ckpt_path=newest)
        check(second, arguments, scores, folder)
