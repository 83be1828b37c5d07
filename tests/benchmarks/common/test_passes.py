"""The FLOP formula against the program that runs, full buckets, and whole runs."""

import math
import time

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from common import passes
from jaxcram.cram import lanes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.settings import CramSettings, StageSettings


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
    assert passes.pass_flops(model, bucket, num_memory) == product_flops(traced.jaxpr)
    assert passes.pass_flops(model.unstacked(), bucket, num_memory) == product_flops(traced.jaxpr)


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
    assert counted == pytest.approx(passes.pass_flops(model, bucket), rel=0.05)


def test_matmul_rate_is_work_over_time(monkeypatch):
    monkeypatch.setattr(passes, "seconds", lambda action, repeats: [0.5] * (repeats - 1) + [0.25])
    assert passes.matmul_rate(jnp.float32, size=8, repeats=3) == 2 * 8**3 / 0.25


def test_read_rate_is_bytes_over_time(monkeypatch):
    monkeypatch.setattr(passes, "seconds", lambda action, repeats: [0.5] * (repeats - 1) + [0.25])
    assert passes.read_rate(size=100, repeats=3) == 400 / 0.25


@pytest.mark.parametrize("tied_head", [True, False])
def test_a_pass_reads_layers_and_head_twice(llama, tied_head):
    """Of a tied decoder all weights but the final norm, of another not the input embedding."""
    model = llama(tied_head=tied_head)
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(model)) - model.final_norm.weight[...].nbytes
    unread = 0 if tied_head else model.embedding_VxD[...].nbytes
    assert passes.weight_bytes(model) == passes.weight_bytes(model.unstacked()) == 2 * (total - unread)


def test_shapes_of_passes_are_lanes_times_tokens():
    assert passes.parse_buckets(("8x64", "", "25x32")) == [Bucket(64, 8), Bucket(32, 25)]


def test_a_full_bucket_steps_every_lane_in_every_pass(llama):
    tally = passes.full_bucket(llama(), Bucket(tokens=16, lanes=3), chunk_passes=5)()
    assert (tally.passes, tally.lane_steps) == (5, 15)
    assert tally.useful_tokens == tally.paid_tokens == 5 * 3 * 16


@pytest.mark.slow
def test_the_work_of_a_run_is_that_of_its_buckets_and_of_its_lanes(llama, samples):
    settings = CramSettings(
        learning_rates=(0.1,),
        stages=StageSettings(max_steps=40, max_steps_per_token=12),
        trajectory="none",
        chunk_passes=8,
    )
    start = time.perf_counter()
    with passes.tallied_by_bucket(llama()) as buckets:
        result = passes.whole_run(llama(), samples, settings)
    assert [outcome.job.sample_id for outcome in result.outcomes] == [0, 1, 2, 3]
    assert result.total.lane_steps == sum(outcome.steps for outcome in result.outcomes)
    assert result.total.passes == sum(tally.passes for tally in buckets.values())
    assert result.buckets == sorted(buckets)
    again = passes.whole_run(llama(), samples, settings, result.fit)
    assert (again.fit, again.buckets) == (result.fit, result.buckets)
    for bucket, tally in buckets.items():
        assert tally.paid_tokens == tally.passes * bucket.lanes * bucket.tokens
        assert tally.flops == tally.passes * passes.pass_flops(llama(), bucket)
    assert 0 < sum(tally.wall_s for tally in buckets.values()) <= time.perf_counter() - start
