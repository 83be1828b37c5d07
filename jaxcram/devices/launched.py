"""Whether a launcher started this process as one of several, read from environment variables.

JAX joins the processes of some launchers by itself. With any other launcher, each process would run the
whole program; the variables that launchers set reveal that case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxcram.errors import UserError

_VARIABLES = (  # (number of processes, rank of this one); inner launchers before those they may run under
    ("WORLD_SIZE", "RANK"),  # torchrun, accelerate, Kubeflow
    ("HOROVOD_SIZE", "HOROVOD_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),  # MVAPICH
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI, srun --mpi=pmi2
    ("PALS_SIZE", "PALS_RANKID"),  # HPE Cray
    ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),  # IBM's jsrun
    ("FLUX_JOB_SIZE", "FLUX_TASK_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
)
_ADDRESS = "JAX_COORDINATOR_ADDRESS"


class Tasks(NamedTuple):
    """Processes that a launcher started together.

    Attributes:
        size: number of processes.
        rank: number of this process.
        variables: the environment variables that say so, as NAME=VALUE.
    """

    size: int
    rank: int
    variables: str


def tasks(environ: Mapping[str, str]) -> Tasks | None:
    """The processes that a launcher started together with this one; None if it started only one."""
    for size_name, rank_name in _VARIABLES:
        size, rank = environ.get(size_name, ""), environ.get(rank_name, "")
        if size.isdecimal() and rank.isdecimal() and int(size) > 1:
            return Tasks(int(size), int(rank), f"{size_name}={size} {rank_name}={rank}")
    return None


def require_joined(environ: Mapping[str, str], joined: tuple[int, int] | None) -> None:
    """Requires that JAX has found every process that the launcher started.

    Args:
        environ: the environment of this process.
        joined: (number of processes, rank of this one) as JAX found them; None if it found no others.

    Raises:
        UserError: the launcher started more processes than JAX found.
    """
    found = tasks(environ)
    if found and joined != (found.size, found.rank):
        others = f", but JAX finds {joined[0]} and numbers this one {joined[1]}" if joined else ""
        raise UserError(
            f"{found.variables}: a launcher has started {found.size} processes{others}; connect them with "
            f"coordinator_address=HOST:PORT num_processes={found.size} "
            f"process_id={found.rank}, or unset these variables to run one process alone"
        )
    if joined is None and environ.get(_ADDRESS):
        raise UserError(
            f"{_ADDRESS}={environ[_ADDRESS]} does not say how many processes there are; give "
            "coordinator_address, num_processes and process_id, or unset it to run one process alone"
        )


def refuse_several(environ: Mapping[str, str]) -> None:
    """Requires that this process runs alone, for programs that support only one process.

    Raises:
        UserError: a launcher started several.
    """
    if found := tasks(environ):
        raise UserError(
            f"{found.variables}: a launcher has started {found.size} processes, but this program runs as "
            "one; start it without the launcher"
        )
