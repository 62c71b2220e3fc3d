"""Processes that mpirun started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from leyden_strategies.environments.variables import VariablesEnvironment


class MPIEnvironment(VariablesEnvironment):
    """Open MPI and MPICH (Hydra, Intel MPI), by the variables that their launchers set; MPI itself is not needed."""

    name = "mpi"
    priority = 20
    marker = "OMPI_COMM_WORLD_RANK"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rank": ("OMPI_COMM_WORLD_RANK", "PMI_RANK"),
        "world_size": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
        "local_rank": ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
        "local_world_size": ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"),
    }

    @classmethod
    def is_marked(cls) -> bool:
        """Whether mpirun of Open MPI, or of MPICH with its local ranks, has started this process."""
        return cls.marker in os.environ or ("PMI_RANK" in os.environ and "MPI_LOCALRANKID" in os.environ)

    def reason(self) -> str:
        """Why it was chosen."""
        return f"{self._shown('rank')}, {self._shown('world_size')}"

    def job(self) -> str:
        """What Open MPI calls the job, if it says."""
        return os.environ.get("PMIX_NAMESPACE", os.environ.get("OMPI_MCA_orte_ess_jobid", ""))  # noqa: SIM112  # Open MPI's own
