"""What the Trainer knows during a run, and forgets before the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden.finite import FiniteWatch
from leyden.interrupts import Received
from leyden.seeding import run_seed

if TYPE_CHECKING:
    from leyden.data.loaders import Loader
    from leyden.data.streams import Stream
    from leyden.loops.evaluate import EvaluateLoop
    from leyden.loops.fit import FitLoop
    from leyden.loops.predict import PredictLoop


class RunState:
    """Plain attributes that the run sets and that plug-ins read."""

    usual_callbacks: list[Any] | None = None
    """The Trainer's own callbacks, while a module's ``configure_callbacks`` replaces some of them."""

    called: str | None = None
    """Which of ``"fit"``, ``"validate"``, ``"test"`` and ``"predict"`` was called last."""

    came_to_its_end = False
    """Whether it did: an exception or Ctrl-C may have ended it."""

    def reset(self) -> None:
        """As before a run."""
        self.stage: str | None = None
        """``"fit"``, ``"validate"``, ``"test"`` or ``"predict"`` during a run, else None."""
        self.running = False
        """Whether a run is going on."""
        self.accepts_logs = False
        self.seed: int = run_seed()
        """What every random number of the run follows from: that of ``seed_everything``, of ``torch.manual_seed``, or one that
        torch drew when the process began; in a fit that goes on from a checkpoint, that of the checkpoint."""
        self.loaded_checkpoint: str | None = None
        """The checkpoint that this run loaded, ``"best"`` and ``"last"`` resolved."""
        self.agreed_log_dir: str | None = None
        """In a run of several processes the directory of the run on rank 0, on all of them."""
        self.sanity_checking = False
        self.training = False
        self.validating = False
        self.testing = False
        self.predicting = False
        self.error: BaseException | None = None
        """What ended the run, while everybody is told."""
        self.should_stop = False
        """Set it, and training stops at the next batch, or once ``min_epochs`` and ``min_steps`` are reached."""
        self.interrupt_requested = False
        """Whether a signal came, Ctrl-C or SIGTERM; the loops stop after the running batch. Set it to stop so yourself."""
        self.received = Received()
        """Which signal that was."""
        self.interrupted = False
        """Whether Ctrl-C ended the last fit."""
        self.running_batch: tuple[Any, int] | None = None
        """The batch that ``Trainer.batches`` gave out last, and its index, while its user trains on it."""
        self.is_last_batch = False
        self.num_training_batches: int | float = 0
        self.num_val_batches: list[int | float] = []
        self.num_sanity_val_batches: list[int | float] = []
        self.num_test_batches: list[int | float] = []
        self.num_predict_batches: list[int | float] = []
        self.train_dataloader: Any = None
        self.val_dataloaders: Any = None
        self.test_dataloaders: Any = None
        self.predict_dataloaders: Any = None
        self.train_loader: Loader | None = None
        self.streams: dict[str, Stream] = {}
        """What reads the loaders of this run, by purpose: ``"train"``, ``"val/0"``, ..."""
        self.given_train: Any = None
        """The training loaders given to ``fit``, and below the validation loaders."""
        self.given_val: Any = None
        self.fit_loop: FitLoop | None = None
        """The loop of the running or the last fit; likewise for the other three, None after a run of another kind."""
        self.validate_loop: EvaluateLoop | None = None
        self.test_loop: EvaluateLoop | None = None
        self.predict_loop: PredictLoop | None = None
        self.finite_watch: FiniteWatch = FiniteWatch()
        """Notices losses, gradients and parameters that are not finite."""
        self.train_step: Any = None
        """How this run trains on one batch."""
