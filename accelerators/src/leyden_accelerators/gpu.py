"""Chooses the GPU accelerator that this machine has."""

from __future__ import annotations

from leyden import Accelerator

from leyden_accelerators.cuda import CUDAAccelerator
from leyden_accelerators.mps import MPSAccelerator


def gpu() -> Accelerator:
    """The accelerator of this machine's GPU: CUDA, else MPS.

    Raises:
        ValueError: there is neither.
    """
    for kind in (CUDAAccelerator, MPSAccelerator):
        if kind.is_available():
            return kind()
    raise ValueError(
        f"accelerator='gpu' was asked for but there is no CUDA device here ({CUDAAccelerator.absence()}) and no MPS device "
        f"({MPSAccelerator.absence()}); use accelerator='auto'"
    )
