"""Lightning's ``plugins.environments.torchelastic_environment``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.environments.torchelastic import TorchElasticEnvironment as TorchElasticEnvironment
