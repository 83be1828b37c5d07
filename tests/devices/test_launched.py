"""How a process reads the variables of launchers."""

import pytest

from jaxcram.devices import launched
from jaxcram.errors import UserError

OPEN_MPI_5 = {
    "PRTE_LAUNCHED": "1",
    "PMIX_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("environ", "joined"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        ({"WORLD_SIZE": "2"}, None),  # no rank: not from a launcher
        ({"WORLD_SIZE": "two", "RANK": "0"}, None),
        (SRUN, (4, 3)),
        (SRUN | {"PMI_SIZE": "4", "PMI_RANK": "3"}, (4, 3)),  # srun --mpi=pmi2
        (OPEN_MPI_5 | SRUN, (2, 1)),  # mpirun within a Slurm allocation, one daemon per node
        ({}, (8, 0)),  # a TPU slice
    ],
)
def test_processes_that_jax_has_connected_are_accepted(environ, joined):
    launched.require_joined(environ, joined)


@pytest.mark.parametrize(
    ("environ", "joined", "variables", "others"),
    [
        (OPEN_MPI_5, None, "OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1", ""),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, None, "PMI_SIZE=2 PMI_RANK=1", ""),
        ({"WORLD_SIZE": "2", "RANK": "1"} | SRUN, (4, 3), "WORLD_SIZE=2 RANK=1", (4, 3)),
        (
            {"PMI_SIZE": "2", "PMI_RANK": "1"} | SRUN,  # mpiexec.hydra, whose daemons srun has started
            (4, 3),
            "PMI_SIZE=2 PMI_RANK=1",
            (4, 3),
        ),
    ],
)
def test_processes_that_are_not_connected_are_refused(environ, joined, variables, others):
    with pytest.raises(UserError) as error:
        launched.require_joined(environ, joined)
    found = f", but JAX finds {others[0]} and numbers this one {others[1]}" if others else ""
    assert str(error.value) == (
        f"{variables}: a launcher has started 2 processes{found}; connect them with "
        "coordinator_address=HOST:PORT num_processes=2 process_id=1, or unset these variables to run one "
        "process alone"
    )
    assert error.value.exit_code == 2


def test_an_address_without_a_process_count_is_refused():
    with pytest.raises(UserError) as error:
        launched.require_joined({"JAX_COORDINATOR_ADDRESS": "a:1"}, None)
    assert str(error.value) == (
        "JAX_COORDINATOR_ADDRESS=a:1 does not say how many processes there are; give "
        "coordinator_address, num_processes and process_id, or unset it to run one process alone"
    )
    launched.require_joined({"JAX_COORDINATOR_ADDRESS": "a:1"}, (2, 0))


def test_a_single_process_program_refuses_a_launcher():
    launched.refuse_several({"PMI_SIZE": "1", "PMI_RANK": "0"})
    with pytest.raises(UserError) as error:
        launched.refuse_several(SRUN)
    assert str(error.value) == (
        "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3: a launcher has started 4 processes, but this program runs as "
        "one; start it without the launcher"
    )
