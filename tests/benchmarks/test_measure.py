"""The FLOP formula against the program that runs, and how results are written down."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import measure
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from jaxcram.cram import lanes
from jaxcram.cram.lanes import Bucket, PassSettings


def one_pass(model, bucket, num_memory):
    """The pass as a function of model and lanes, and the shapes of lanes to call it with."""
    settings = PassSettings()

    def start():
        return lanes.init_pool(
            lanes.Problem(
                jnp.ones((bucket.lanes, bucket.tokens), jnp.int32),
                jnp.full(bucket.lanes, bucket.tokens),
                jnp.full(bucket.lanes, 0.1),
            ),
            jnp.ones((bucket.lanes, num_memory, model.config.width)),
            settings,
        )

    return lambda model, pool: lanes.one_pass(model, pool, bucket.tokens, settings), jax.eval_shape(start)


def product_flops(jaxpr):
    """FLOPs of all matrix products of a traced program, those in loops as often as the loop turns."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * summed * math.prod(equation.outvars[0].aval.shape)
        inner = sum(map(product_flops, jaxprs_in_params(equation.params)))
        total += inner * equation.params.get("length", 1)
    return total


@pytest.mark.parametrize(("num_layers", "num_memory"), [(1, 1), (3, 1), (2, 4)])
def test_pass_flops_are_the_matrix_products_of_the_traced_pass(llama, num_layers, num_memory, monkeypatch):
    """To the last one, where nothing is computed twice: recomputing saves memory and is no model work."""
    monkeypatch.setattr(jax, "checkpoint", lambda function, **_: function)
    model, bucket = llama(num_layers=num_layers, num_heads=6, tied_head=False), Bucket(tokens=24, lanes=3)
    traced = jax.make_jaxpr(one_pass(model, bucket, num_memory)[0])(
        model, one_pass(model, bucket, num_memory)[1]
    )
    assert measure.pass_flops(model, bucket, num_memory) == product_flops(traced.jaxpr)
    assert measure.pass_flops(model.unstacked(), bucket, num_memory) == product_flops(traced.jaxpr)


@pytest.mark.optimised
def test_pass_flops_agree_with_the_compilers_count(llama):
    """XLA counts element-wise work too, a few per cent of a model with wide matrices; one layer, for it does
    not multiply a loop's body by its turns.
    """
    model = nnx.eval_shape(
        lambda: llama(num_layers=1, width=256, head_size=64, mlp_width=768, vocab_size=512)
    )
    bucket = Bucket(tokens=48, lanes=4)
    function, pool = one_pass(model, bucket, 1)
    counted = jax.jit(function).lower(model, pool).compile().cost_analysis()["flops"]
    assert counted == pytest.approx(measure.pass_flops(model, bucket), rel=0.05)


def test_json_lines_are_appended(tmp_path):
    path = tmp_path / "lines.jsonl"
    measure.write_json_lines([{"a": 1}, {"b": [np.int32(2), np.float64(0.5)]}], str(path))
    measure.write_json_lines([{"c": np.arange(2)}], str(path))
    assert list(map(json.loads, path.read_text().splitlines())) == [{"a": 1}, {"b": [2, 0.5]}, {"c": [0, 1]}]


def test_a_table_lines_its_columns_up():
    records = [{"name": "long name", "x": 1.25, "unseen": 0}, {"name": "b", "x": None}]
    assert (
        measure.table(records, {"name": "", "x": ".1f"}) == "     name    x\nlong name  1.2\n        b    -"
    )


def test_the_machine_is_described():
    described = measure.machine()
    assert list(described) == ["cpu", "cores", "load", "backend", "devices", "jax", "torch", "commit"]
    assert described["backend"] == "cpu"
    assert described["jax"] == jax.__version__


def test_describing_the_machine_makes_every_core_a_device(own_devices):
    """In a fresh process: JAX counts its devices once, when it is first asked for them."""
    code = "import measure; machine = measure.machine(); print(machine['cores'], len(machine['devices']))"
    folder = Path(measure.__file__).parent
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=folder, env=own_devices, capture_output=True, text=True, check=True)
    cores, devices = told.stdout.split()
    assert cores == devices


def test_matmul_rate_is_work_over_time(monkeypatch):
    monkeypatch.setattr(measure, "seconds", lambda action, repeats: [0.5] * (repeats - 1) + [0.25])
    assert measure.matmul_rate(jnp.float32, size=8, repeats=3) == 2 * 8**3 / 0.25
