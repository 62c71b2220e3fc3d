"""Optimizers and schedulers of a run."""
