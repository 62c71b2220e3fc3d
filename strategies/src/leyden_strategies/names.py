"""The names that Lightning has for variants of DDP: each is the class with an option."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden_strategies.ddp import DDPNotebookStrategy, DDPStrategy

if TYPE_CHECKING:
    from leyden import Accelerator


class DDPSpawnStrategy(DDPStrategy):
    """DDP whose processes are spawned, so that what goes to them must be picklable."""

    name = "ddp_spawn"

    def __init__(self, launcher: str = "spawn", **options: Any) -> None:
        super().__init__(launcher, **options)

    @classmethod
    def priority(cls, accelerator: Accelerator, num_devices: int, num_nodes: int) -> int:
        """Chosen by name only."""
        return 0


class DDPForkStrategy(DDPStrategy):
    """DDP whose processes are forked."""

    name = "ddp_fork"

    def __init__(self, launcher: str = "fork", **options: Any) -> None:
        super().__init__(launcher, **options)

    @classmethod
    def priority(cls, accelerator: Accelerator, num_devices: int, num_nodes: int) -> int:
        """Chosen by name only."""
        return 0


def find_unused_parameters_true(**options: Any) -> DDPStrategy:
    """``ddp`` that looks for parameters that a loss does not depend on."""
    return DDPStrategy(**{"find_unused_parameters": True, **options})


def find_unused_parameters_false(**options: Any) -> DDPStrategy:
    """``ddp`` that does not, whatever the number of optimizers."""
    return DDPStrategy(**{"find_unused_parameters": False, **options})


def spawn_find_unused_parameters_true(**options: Any) -> DDPStrategy:
    """``ddp_spawn`` that looks for them."""
    return DDPSpawnStrategy(**{"find_unused_parameters": True, **options})


def spawn_find_unused_parameters_false(**options: Any) -> DDPStrategy:
    """``ddp_spawn`` that does not."""
    return DDPSpawnStrategy(**{"find_unused_parameters": False, **options})


def fork_find_unused_parameters_true(**options: Any) -> DDPStrategy:
    """``ddp_fork`` that looks for them."""
    return DDPForkStrategy(**{"find_unused_parameters": True, **options})


def fork_find_unused_parameters_false(**options: Any) -> DDPStrategy:
    """``ddp_fork`` that does not."""
    return DDPForkStrategy(**{"find_unused_parameters": False, **options})


def notebook_find_unused_parameters_true(**options: Any) -> DDPStrategy:
    """``ddp_notebook`` that looks for them."""
    return DDPNotebookStrategy(**{"find_unused_parameters": True, **options})


def notebook_find_unused_parameters_false(**options: Any) -> DDPStrategy:
    """``ddp_notebook`` that does not."""
    return DDPNotebookStrategy(**{"find_unused_parameters": False, **options})
