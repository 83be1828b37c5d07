"""The GPU benchmark on CPU: its stages on tiny shapes, its deadline and its table."""

import dataclasses
import json
import re
import time
import types

import jax.numpy as jnp
import pytest

import gpu
from common import gpu_stages, shapes
from common.gpu_stages import Plan
from jaxcram.cram.lanes import Bucket
from jaxcram.errors import UserError

PLAN = Plan("tiny-neox", lengths=(12,), token_budget=24, sweep=(12,), chunk_s=0.01)
RATES = [
    *("measurement", "shape", "tokens", "lanes", "pass_s", "passes_per_s", "tokens_per_s"),
    *("model_flops_per_s", "matmul_flops_per_s", "matmul_share"),
]
JAX_KEYS = [*RATES, "remat", "attention", "compile_s", "first_chunk_s", "peak_bytes"]


@pytest.fixture(autouse=True)
def _small_products(monkeypatch):
    monkeypatch.setattr(gpu_stages.passes, "matmul_rate", lambda dtype: 1e9)


@pytest.mark.slow
def test_records_of_the_stages_of_jaxcram():
    passes = list(gpu_stages.jax_passes(dataclasses.replace(PLAN, extras=True)))
    measured = [(one["measurement"], one["remat"], one["lanes"]) for one in passes]
    assert measured == [("pass", True, 2), ("pass", False, 2), ("plain", False, 2)]
    (swept,) = gpu_stages.sweep(PLAN)
    assert (swept["measurement"], swept["tokens"], swept["lanes"]) == ("sweep", 12, 1)
    for one in [*passes, swept]:
        assert list(one) == JAX_KEYS
        assert one["matmul_share"] == one["model_flops_per_s"] / 1e9
        assert one["tokens_per_s"] == pytest.approx(12 * one["lanes"] * one["passes_per_s"])


@pytest.mark.slow
def test_the_reference_is_timed_at_the_same_shape_and_counted_by_the_same_flops(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gpu_stages, "_torch_matmul_rate", lambda torch, device: 1e9)
    (one,) = gpu_stages.torch_passes(PLAN)
    assert list(one) == [*RATES, "peak_bytes"]
    flops = gpu_stages.passes.pass_flops(shapes.abstract("tiny-neox", jnp.bfloat16), Bucket(12, 2))
    assert one["model_flops_per_s"] * one["pass_s"] == pytest.approx(flops)


@pytest.mark.slow
def test_numerics_compare_each_side_with_fp32():
    pytest.importorskip("torch")
    default, plain, *logits = gpu_stages.numerics(PLAN)
    without_time = [one | {"pass_s": None} for one in (default, plain)]
    assert without_time[0] == without_time[1]  # on CPU both are the plain path, to the bit
    assert (default["attention"], default["kernels"]) == ("plain", [])
    assert 1e-4 < default["output_error"] < 0.01 < 0.02 > default["query_error"]
    for one in logits:  # rounding to bf16, as PyTorch's; the same function, or the errors would be near 1
        assert one["jaxcram_error"] == pytest.approx(one["torch_error"], rel=0.3)
        assert one["jaxcram_error"] < 0.02


@pytest.mark.parametrize("complaint", ["RESOURCE_EXHAUSTED: 5 GB", "CUDA out of memory. Tried to"])
def test_lanes_are_halved_until_they_fit(complaint):
    def timed(bucket):
        if bucket.lanes > 3:
            raise RuntimeError(complaint)
        return {"lanes": bucket.lanes}

    assert gpu_stages._halved_until_it_fits(timed, Bucket(8, 13)) == {"lanes": 3}


def test_other_failures_are_not_taken_for_a_lack_of_memory():
    def timed(bucket):
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        gpu_stages._halved_until_it_fits(timed, Bucket(8, 16))


def test_a_stage_is_stopped_at_the_deadline():
    (one,) = gpu.watched("numerics", tiny=True, deadline=time.monotonic())
    assert one == {"measurement": "stopped", "reason": "out of time"}


def test_lines_are_written_as_they_come_and_the_table_joins_the_sides(monkeypatch, tmp_path, capsys):
    """Stages are stood in for: the first machine is everybody's, the second stage eats up the time."""
    rates = dict.fromkeys(RATES, 1.0) | {"shape": "tiny-llama", "tokens": 32, "lanes": 4}
    ours = rates | {"measurement": "pass", "remat": False, "attention": "cudnn", "compile_s": 3.0}
    ours |= {"tokens_per_s": 30.0, "peak_bytes": 2_500_000_000}
    theirs = rates | {"measurement": "torch_pass", "lanes": 2, "tokens_per_s": 20.0, "matmul_share": 0.5}
    file = tmp_path / "lines.jsonl"

    def watched(stage, tiny, deadline):
        assert not file.exists() or stage != "numerics"
        if stage == "numerics":
            yield {"measurement": "machine", "backend": "gpu", "commit": None}
            yield ours
        else:
            assert len(file.read_text().splitlines()) == 1  # the line of the stage before
            yield theirs
            clock.monotonic = lambda: deadline

    clock = types.SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(gpu, "time", clock)
    monkeypatch.setattr(gpu, "watched", watched)
    gpu.main(gpu.Command(minutes=1, tiny=True, commit="abc", json=str(file)))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["stage"], line["measurement"]) for line in lines] == [
        ("numerics", "pass"),
        ("jax:tiny-llama", "torch_pass"),
    ]
    assert {(line["machine"]["backend"], line["machine"]["commit"]) for line in lines} == {("gpu", "abc")}
    printed = capsys.readouterr().out
    assert re.search(r"tiny-llama +32 +4 +False +cudnn +1\.00 +1\.000 +2\.5 +3\.0 +2 +0\.500 +1\.50", printed)
    assert printed.count("not begun") == len(gpu.stages(tiny=True)) - 2


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"--stage=jax:gpt5: choose one of numerics, jax:llama3\.1-8b, torch"):
        gpu.Command(stage="jax:gpt5")
    with pytest.raises(UserError, match="--minutes=0: must be greater than 0"):
        gpu.Command(minutes=0)
