"""Lightning's ``callbacks.spike``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.spike_detection import SpikeDetection as SpikeDetection
from typing import Any

TrainingSpikeException: Any
