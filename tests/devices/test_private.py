"""Every private name of JAX that is used exists in the installed version."""

import importlib

import pytest

from jaxcram.devices import private


def found(name: str) -> object:
    """The object of a dotted name; its longest prefix that is a module is imported."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part)
        return thing
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", private.NAMES)
def test_the_name_exists(name):
    found(name)


def test_a_single_process_has_rank_0_of_1():
    assert (private.process_id(), private.num_processes(), private.coordination_client()) == (0, 1, None)


def test_a_launcher_that_jax_knows_is_found(monkeypatch):
    assert private.cluster() is None
    slurm = {"JOB_ID": "5", "STEP_NODELIST": "n1", "NTASKS": "4", "PROCID": "3", "LOCALID": "3"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert private.cluster() == ("slurm", 4, 3)
