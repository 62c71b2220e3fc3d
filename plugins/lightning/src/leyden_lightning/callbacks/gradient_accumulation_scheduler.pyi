"""Lightning's ``callbacks.gradient_accumulation_scheduler``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler as GradientAccumulationScheduler
