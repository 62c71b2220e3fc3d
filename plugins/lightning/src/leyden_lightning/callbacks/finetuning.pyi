"""Lightning's ``callbacks.finetuning``, for type checkers; written by tools/make_stubs.py."""

from leyden_callbacks.finetuning import BackboneFinetuning as BackboneFinetuning
from leyden_callbacks.finetuning import BaseFinetuning as BaseFinetuning
