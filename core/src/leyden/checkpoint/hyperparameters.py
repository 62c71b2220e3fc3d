"""What a checkpoint keeps of hyperparameters."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from leyden.checkpoint.plain import plain_items
from leyden.messages import LeydenWarning, listed

if TYPE_CHECKING:
    from leyden.hparams import HyperparametersMixin


def add_hyperparameters(checkpoint: dict[str, Any], owner: HyperparametersMixin, key: str, name_key: str) -> None:
    if not owner.hparams:
        return
    kept, left_out = plain_items(owner.hparams)
    checkpoint[key] = kept
    if owner._hparams_name:
        checkpoint[name_key] = owner._hparams_name
        checkpoint[name_key.replace("name", "type")] = owner._hparams_type
    if left_out:
        warnings.warn(
            f"{type(owner).__name__}: hyperparameters {listed(left_out)} are not plain data and are not in the checkpoint; "
            f"pass them to load_from_checkpoint(), and silence this with save_hyperparameters(ignore=[{listed(left_out)}])",
            LeydenWarning,
            stacklevel=2,
        )
