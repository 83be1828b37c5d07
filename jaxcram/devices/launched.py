"""Which launcher started this process as one of several, read from the environment alone.

JAX joins the processes of some launchers by itself. Those of others would each do the whole work; the
variables that every launcher sets tell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxcram.errors import UserError

_VARIABLES = (  # how many processes there are, and which this is; a launcher comes before those it may run in
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
    """Processes that a launcher has started together, and the variables that say so."""

    size: int
    rank: int
    said: str


def tasks(environ: Mapping[str, str]) -> Tasks | None:
    """What the launcher has written that started this process, if it started several."""
    for size_name, rank_name in _VARIABLES:
        size, rank = environ.get(size_name, ""), environ.get(rank_name, "")
        if size.isdecimal() and rank.isdecimal() and int(size) > 1:
            return Tasks(int(size), int(rank), f"{size_name}={size} {rank_name}={rank}")
    return None


def refuse_strangers(environ: Mapping[str, str], joined: tuple[int, int] | None) -> None:
    """Refuses to do by itself what several processes were started for.

    Args:
        environ: of this process.
        joined: (how many processes, which this is) that JAX finds by itself; None where it finds no others.

    Raises:
        UserError: a launcher says something else.
    """
    found = tasks(environ)
    if found and joined != (found.size, found.rank):
        others = f", of which JAX finds {joined[0]} and takes this for number {joined[1]}" if joined else ""
        raise UserError(
            f"{found.said}: a launcher has started {found.size} processes{others}; have them find each "
            f"other with coordinator_address=HOST:PORT num_processes={found.size} "
            f"process_id={found.rank}, or unset these variables to run one alone"
        )
    if joined is None and environ.get(_ADDRESS):
        raise UserError(
            f"{_ADDRESS}={environ[_ADDRESS]}: it does not say how many processes there are; give "
            "coordinator_address, num_processes and process_id, or unset it to run one alone"
        )


def refuse_several(environ: Mapping[str, str]) -> None:
    """For a program that is one process.

    Raises:
        UserError: a launcher has started several.
    """
    if found := tasks(environ):
        raise UserError(
            f"{found.said}: a launcher has started {found.size} processes, but this program is one; "
            "start it without the launcher"
        )
