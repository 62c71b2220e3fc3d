"""Lightning's ``strategies.parallel``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.processes import ProcessesStrategy as _ProcessesStrategy

ParallelStrategy = _ProcessesStrategy
