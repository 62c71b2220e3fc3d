"""Lightning's ``plugins.environments.slurm_environment``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.environments.slurm import SLURMEnvironment as SLURMEnvironment
