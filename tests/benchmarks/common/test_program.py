"""How measurements are described, written down and shown."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from common import program


def test_records_are_appended_after_what_they_have_in_common(tmp_path):
    path = tmp_path / "lines.jsonl"
    program.write_records(str(path), [{"a": 1}, {"b": [np.int32(2), np.float64(0.5)]}], of="x")
    program.write_records(str(path), [{"c": np.arange(2)}])
    assert path.read_text().splitlines() == [
        '{"of": "x", "a": 1}',
        '{"of": "x", "b": [2, 0.5]}',
        '{"c": [0, 1]}',
    ]


def test_a_table_lines_its_columns_up():
    records = [{"name": "long name", "x": 1.25, "unseen": 0}, {"name": "b", "x": None}]
    assert (
        program.table(records, {"name": "", "x": ".1f"}) == "     name    x\nlong name  1.2\n        b    -"
    )


def test_the_machine_is_described():
    described = program.machine()
    assert list(described) == ["cpu", "cores", "load", "backend", "devices", "jax", "torch", "commit"]
    assert described["backend"] == "cpu"
    assert described["jax"] == jax.__version__


def test_what_other_programs_took_is_neither_idle_nor_our_own(monkeypatch):
    """Of 10 s of the cores 4 were idle, 1 waited for a disk and 2 were our own."""
    times = iter([(5.0, 1.0, 20.0), (10.0, 3.0, 30.0)])
    monkeypatch.setattr(program.Others, "_now", staticmethod(lambda: next(times)))
    with program.Others() as others:
        pass
    assert others.share == pytest.approx(0.3)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat")
def test_our_own_work_is_not_that_of_others():
    idle, own, total = program.Others._now()
    assert 0 < own < total
    assert 0 < idle < total


def test_describing_the_machine_makes_every_core_a_device(own_devices):
    """In a fresh process: JAX counts its devices once, when it is first asked for them."""
    code = "from common.program import machine; told = machine(); print(told['cores'], len(told['devices']))"
    folder = Path(program.__file__).parents[1]
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=folder, env=own_devices, capture_output=True, text=True, check=True)
    cores, devices = told.stdout.split()
    assert cores == devices
