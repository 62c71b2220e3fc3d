"""Lightning's ``plugins.environments.lightning_environment``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.environments.local import LocalEnvironment as _LocalEnvironment

LightningEnvironment = _LocalEnvironment
