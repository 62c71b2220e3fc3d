"""Where a run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

# The moments of a run at which a checkpoint can be taken, by what is going on; "" lies between two of them. What a moment
# names has begun, so a run that goes on from a checkpoint of that moment begins with what follows. A step is no such moment.
EPOCH_START = "on_train_epoch_start"
BATCH_START = "on_train_batch_start"
STEP = "a step"
BATCH_END = "on_train_batch_end"
VALIDATION = "validation"
EPOCH_END = "on_train_epoch_end"

START = "on_validation_start"
EVAL_START = "on_validation_epoch_start"
EVAL_BATCH_START = "on_validation_batch_start"
EVAL_BATCH_END = "on_validation_batch_end"
EVAL_END = "on_validation_epoch_end"
END = "on_validation_end"


@dataclass
class EvaluationProgress:
    """Where an evaluation is."""

    dataloader_idx: int = 0
    """Loaders that are done, and so the index of the running one."""

    batch: int = 0
    """Batches of the running loader that are done, and so the index of the next."""

    moment: str = ""
    """What of an evaluation is going on; empty between two evaluations."""

    def clear(self) -> None:
        """As before an evaluation."""
        self.dataloader_idx, self.batch, self.moment = 0, 0, ""


@dataclass
class Progress:
    """The counters that a checkpoint restores; nothing else counts."""

    epoch: int = 0
    """Epochs completed, and so the number of the running one."""

    batch: int = 0
    """Batches of the running epoch that are done, and so the index of the next."""

    total_batches: int = 0
    """Batches done in all epochs."""

    samples: int = 0
    """Samples of the batches done in all epochs. Counted where torch's sampler says how many a batch has, and else where
    somebody wants the number: a logger, or an interval in samples."""

    global_step: int = 0
    """Training steps that updated parameters, whatever the number of optimizers."""

    optimizer_steps: list[int] = field(default_factory=list)
    """Steps of each optimizer."""

    turns: int = 0
    """Turns that optimizers with frequencies have had, and so whose turn is next."""

    skipped_steps: int = 0
    """Steps that updated nothing: gradients overflowed or were not finite, or processes agreed to skip. Where there are any, each
    epoch's record has their number so far, by the same name."""

    validations: int = 0
    """Validations inside the fit that are done, the sanity check not counted."""

    validated_at: int = 0
    """``global_step`` at the last of them."""

    validated_samples: int = 0
    """``samples`` at the last of them."""

    moment: str = ""
    """What of the running epoch is going on, by the hook's name; empty between two batches."""

    validation: EvaluationProgress = field(default_factory=EvaluationProgress)
    """Where the running validation is."""

    @property
    def epoch_ended(self) -> bool:
        """Whether all batches of the running epoch are done and its last hooks are running."""
        return self.moment == EPOCH_END

    def next_epoch(self) -> None:
        """Ends the running epoch."""
        self.epoch += 1
        self.batch = 0
        self.moment = ""

    def state_dict(self) -> dict[str, Any]:
        """The counters as a dict."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes counters back; one that ``state`` lacks stays."""
        for counter in fields(self):
            value = state.get(counter.name, getattr(self, counter.name))
            if counter.name == "validation":
                value = EvaluationProgress(**value) if isinstance(value, dict) else value
            setattr(self, counter.name, list(value) if isinstance(value, list) else value)
        if "validated_samples" not in state:
            self.validated_samples = self.samples
        if state.get("epoch_ended"):  # of a checkpoint that does not know moments
            self.next_epoch()
