"""Experiments of two processes find what those of one do."""

import numpy as np
import pytest

from jaxcram import api
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.devices.test_processes import ends, joined, start_program
from tests.experiments.conftest import OPTIONS

pytestmark = pytest.mark.slow

# Passes of one lane: planned by time, they would have other shapes, and round otherwise, in every run.
PLANNED = {**OPTIONS, "token_budget": 8}


def started(arguments):
    shared = joined(2)
    return [start_program(*arguments, *shared, f"--process_id={i}", devices=1) for i in range(2)]


def same_but_for_rounding(ours, theirs):
    for row, other in zip(ours.to_pylist(), theirs.to_pylist(), strict=True):
        for name, value in row.items():
            if name in ("log_prob", "log_probs", "memory_mass", "bos_mass"):
                np.testing.assert_allclose(value, other[name], atol=1e-5)
            else:
                assert value == other[name], name


def test_two_processes_evaluate_and_sweep_as_one(tiny_model, data, tmp_path):  # noqa: F811
    alone = api.evaluate(tiny_model, "cloze", data=data, out=tmp_path / "alone", verbose=False, **PLANNED)
    flags = [f"--{name}={value}" for name, value in PLANNED.items()]
    command = ["evaluate", f"--model={tiny_model}", "--task=cloze", f"--data={data}", *flags]
    (code, printed, _), (other_code, other, _) = ends(started([*command, f"--out={tmp_path / 'two'}"]))
    assert (code, other_code) == (0, 0)
    assert "cloze: 6 items, " in printed
    assert "cloze" not in other
    two = api.load_evaluation(tmp_path / "two")
    same_but_for_rounding(two.scores(), alone.scores())
    assert two.summary["scores"] == alone.summary["scores"]

    swept = api.knockout(None, alone.path, out=tmp_path / "swept", verbose=False)
    codes = [code for code, *_ in ends(started(["knockout", str(two.path), f"--out={tmp_path / 'both'}"]))]
    assert codes == [0, 0]
    both = api.load_knockout(tmp_path / "both")
    same_but_for_rounding(both.sweep(), swept.sweep())
    same_but_for_rounding(both.masses(), swept.masses())
