"""Where a run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


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
    """Steps that a gradient scaler skipped because gradients overflowed."""

    epoch_ended: bool = False
    """Whether all batches of the running epoch are done and its last hooks are running."""

    def next_epoch(self) -> None:
        """Ends the running epoch."""
        self.epoch += 1
        self.batch = 0
        self.epoch_ended = False

    def state_dict(self) -> dict[str, Any]:
        """The counters as a dict."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes counters back; one that ``state`` lacks stays. An epoch that had ended counts as completed."""
        for counter in fields(self):
            value = state.get(counter.name, getattr(self, counter.name))
            setattr(self, counter.name, list(value) if isinstance(value, list) else int(value))
        if self.epoch_ended:
            self.next_epoch()
