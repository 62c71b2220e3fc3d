"""Lightning's ``plugins.environments.cluster_environment``, for type checkers; written by tools/make_stubs.py."""

from leyden import ClusterEnvironment as ClusterEnvironment
