"""Lightning's ``plugins.environments``, for type checkers; written by tools/make_stubs.py."""

from leyden import ClusterEnvironment as ClusterEnvironment
from leyden_strategies.environments.kubeflow import KubeflowEnvironment as KubeflowEnvironment
from leyden_strategies.environments.local import LocalEnvironment as _LocalEnvironment
from leyden_strategies.environments.lsf import LSFEnvironment as LSFEnvironment
from leyden_strategies.environments.mpi import MPIEnvironment as MPIEnvironment
from leyden_strategies.environments.slurm import SLURMEnvironment as SLURMEnvironment
from leyden_strategies.environments.torchelastic import TorchElasticEnvironment as TorchElasticEnvironment
from typing import Any

LightningEnvironment = _LocalEnvironment
XLAEnvironment: Any
