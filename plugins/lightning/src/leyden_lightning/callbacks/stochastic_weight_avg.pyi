"""Lightning's ``callbacks.stochastic_weight_avg``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.callbacks import StochasticWeightAveraging as StochasticWeightAveraging
