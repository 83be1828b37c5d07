import dataclasses
import json
from unittest import mock

import jax
import pytest
from flax import nnx
from jax.errors import JaxRuntimeError

from jaxcram import api
from jaxcram.cram import chunk, pass_bytes, roofline
from jaxcram.cram import fit as fitting
from jaxcram.cram.fit import fit_of_json, fit_run
from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.cram.stages import Stop
from jaxcram.devices import device_memory, mesh, processes
from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig

LENGTHS = [12] * 6
SETTINGS = CramSettings(learning_rates=(0.1,))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def passes(monkeypatch):
    """Passes of 100 ms and 10 ms a token; what was timed."""
    timed = []

    def measured(groups, mem_shape, bucket, settings):
        timed.append((len(groups), bucket))
        return 0.1 + 0.01 * bucket.tokens * bucket.lanes

    monkeypatch.setattr(roofline, "guessed", lambda model: PassTime(0.08, 0.012))
    monkeypatch.setattr(roofline, "measured", measured)
    return timed


def test_two_buckets_of_the_run_are_measured_and_the_plan_follows(tiny, cache, passes):
    fit = fit_run(tiny, SETTINGS, LENGTHS)
    work = Work.of(LENGTHS, 1, SETTINGS.stages)
    guess = Plan.best(work, PassTime(0.08025, 0.012), 1, tiny.config.max_positions)
    assert [bucket in guess.buckets for _, bucket in passes] == [True] * len(passes)
    sizes = [bucket.tokens * bucket.lanes for _, bucket in passes]
    assert sizes[1] >= 3 * sizes[0]
    # Rounded to steps of a fifth, on a grid of powers of two.
    host_s = fitting.HOST_S / SETTINGS.chunk_passes
    assert (fit.plan.time.fixed_s, fit.plan.time.token_s) == (2**-3.25 + host_s, 2**-6.75)
    assert fit.plan == Plan.best(work, fit.plan.time, fit.plan.at_once, tiny.config.max_positions)
    assert fit.remat is False
    assert fit.note.startswith("a pass takes 1.1e+02 ms and 9.3 ms a token (measured in ")


@pytest.mark.parametrize(
    ("places", "shared", "cached", "at_once"),
    [(4, True, True, 4), (4, True, False, 1), (4, False, False, 4), (1, True, False, 1)],
)
def test_passes_share_the_cores_of_a_cpu_where_the_weights_stay_in_its_cache(
    tiny, monkeypatch, places, shared, cached, at_once
):
    monkeypatch.setattr(mesh, "places", lambda mesh: places)
    monkeypatch.setattr(mesh, "shares_cores", lambda mesh: shared)
    if not cached:
        monkeypatch.setattr(roofline, "CACHED", sum(leaf.nbytes for leaf in jax.tree.leaves(tiny)) - 1)
    assert roofline.at_once(tiny) == at_once


@pytest.mark.parametrize(
    ("seconds", "slope", "knee"),
    [
        (0.14, 0.01, 10.0),
        (0.14, 0.0001, 13.5),  # twice the roofline's, not 1396
        (0.14, 0.05, 3.4),  # half of it, not less than none
        (0.14, -1.0, 13.5),
        (0.14, 0.0, 6.7),  # one bucket: the roofline's
    ],
)
def test_a_noisy_slope_moves_the_knee_of_the_roofline_by_a_factor_of_two(seconds, slope, knee):
    guess = PassTime(0.08, 0.012)
    found = fitting._agreeing(guess, seconds, slope, 4)
    assert found.fixed_s / found.token_s == pytest.approx(knee, rel=0.2)
    assert found(Bucket(4, 1)) == pytest.approx(seconds, rel=0.1)


def test_what_was_measured_serves_later_runs_of_the_same_model_and_devices(tiny, cache, passes):
    said = []
    first = fit_run(tiny, SETTINGS, LENGTHS, tell=said.append)
    assert said == ["measuring once how long passes take with this model on this device"]
    measured = len(passes)
    again = fit_run(tiny, SETTINGS, LENGTHS, tell=said.append)
    (file,) = cache.iterdir()
    assert (again.plan, len(passes), len(said)) == (first.plan, measured, 1)
    assert (first.note.endswith(f" s, and kept in {file})"), again.note) == (True, "")
    more = fit_run(tiny, SETTINGS, [*LENGTHS, 40])  # another run, the same times
    assert (more.plan.time, more.plan.buckets[-1].tokens, len(passes)) == (first.plan.time, 40, measured)
    fit_run(tiny, dataclasses.replace(SETTINGS, num_memory=2), LENGTHS)
    assert len(passes) == 2 * measured
    file.write_text("{")
    assert fit_run(tiny, SETTINGS, LENGTHS).plan == first.plan
    assert len(passes) == 3 * measured


def test_without_a_cache_nothing_is_stored(tiny, passes, monkeypatch):
    monkeypatch.setattr(fitting, "cache_directory", lambda: None)
    fit_run(tiny, SETTINGS, LENGTHS)
    measured = len(passes)
    fit_run(tiny, SETTINGS, LENGTHS)
    assert len(passes) == 2 * measured


@pytest.mark.parametrize(
    ("change", "lengths", "kept"),
    [
        ({}, LENGTHS, True),
        ({"max_steps": 7}, [3, 2], True),
        ({}, [*LENGTHS, 30], False),  # longer than the last bucket
        ({"token_budget": 32}, LENGTHS, False),
        ({"remat": True}, LENGTHS, False),
    ],
)
def test_the_fit_of_the_first_start_stays_unless_it_cannot_serve(tiny, cache, passes, change, lengths, kept):
    before = dataclasses.replace(fit_run(tiny, SETTINGS, LENGTHS), note="halved since")
    smaller = dataclasses.replace(before, plan=before.plan.halved())
    now = fit_run(tiny, CramSettings.of(SETTINGS, **change), lengths, before=smaller)
    assert (now == smaller) == kept
    elsewhere = dataclasses.replace(smaller, devices=("gpu: abacus",))
    assert fit_run(tiny, SETTINGS, LENGTHS, before=elsewhere) != elsewhere


def test_a_fit_survives_json_and_a_damaged_one_is_none(tiny):
    fit = fit_run(tiny, SETTINGS, LENGTHS)
    stored = json.loads(json.dumps(dataclasses.asdict(fit)))
    assert fit_of_json(stored) == dataclasses.replace(fit, note="")
    assert fit_of_json(None) is None
    assert fit_of_json({**stored, "plan": {}}) is None
    assert fit_of_json({**stored, "asked": None}) is None


def test_a_token_budget_measures_nothing(tiny, cache, passes):
    fit = fit_run(tiny, dataclasses.replace(SETTINGS, token_budget=24), LENGTHS)
    assert (fit.plan.token_budget, passes) == (24, [])
    assert not cache.exists()


@pytest.mark.parametrize(
    ("room", "remat", "lanes"),
    [(10.0, False, 6), (2.5, False, 2), (1.0, False, 1), (0.9, True, 2)],
)
def test_passes_fit_the_memory_and_layers_are_recomputed_only_where_one_lane_does_not(
    tiny, cache, monkeypatch, room, remat, lanes
):
    """Memory of so many lanes of 12 tokens; with recomputed layers a lane takes a third."""

    def count(model, bucket, num_memory, *, remat):
        return mock.Mock(total=bucket.lanes * (300 if remat else 900))

    monkeypatch.setattr(pass_bytes, "count", count)
    monkeypatch.setattr(device_memory, "available", lambda: int(room * 1000))
    monkeypatch.setattr(roofline, "guessed", lambda model: PassTime(1.0, 1e-6))
    monkeypatch.setattr(roofline, "measured", lambda groups, mem_shape, bucket, passes: 1.0)
    monkeypatch.setattr(mesh, "places", lambda mesh: 1)
    fit = fit_run(tiny, SETTINGS, LENGTHS)
    assert (fit.remat, fit.plan.bucket(12).lanes) == (remat, lanes)
    assert ("layers are recomputed" in fit.note) == remat


@pytest.mark.measured
@pytest.mark.optimised
def test_a_real_pass_is_timed_with_the_program_of_the_run(tiny):
    """The compiled program is the run's: it is traced once."""
    settings = CramSettings(learning_rates=(0.1,), stages=StageSettings(max_steps=50), chunk_passes=4)
    groups, bucket = DeviceGroups(tiny), Bucket(5, 2)
    before = chunk.run_chunk._cache_size()
    seconds = roofline.measured(groups, (1, tiny.config.width), bucket, PassSettings.of(settings, False))
    assert chunk.run_chunk._cache_size() == before + 1
    assert 0 < seconds < 5


@pytest.mark.measured
@pytest.mark.parametrize(("at_most_s", "passes"), [(0.0, [1, 1, 1, 3, 3]), (1e9, [1, 1, 4, 4, 4])])
def test_what_is_timed_are_chunks_of_lanes_that_step(monkeypatch, at_most_s, passes):
    """Gradients of many norms from an embedding of zeros are not finite: such a lane would end at once."""
    sizes = {"vocab_size": 20, "width": 8, "num_layers": 30, "mlp_width": 8, "max_positions": 16}
    heads = {"num_heads": 1, "num_kv_heads": 1, "head_size": 8, "tied_head": True, "norm_eps": 1e-5}
    deep = Decoder(LlamaConfig(**sizes, **heads), rngs=nnx.Rngs(0))
    settings = CramSettings(stages=StageSettings(max_steps=50), chunk_passes=4)
    groups, run, ran = DeviceGroups(deep), DeviceGroups._run, []

    def spied(*arguments):
        result = run(*arguments)
        ran.append((int(result.passes.max()), {Stop(stop) for stop in result.state.progress.stop}))
        return result

    monkeypatch.setattr(DeviceGroups, "_run", spied)
    monkeypatch.setattr(roofline, "SECONDS", at_most_s)
    monkeypatch.setattr(processes, "count", lambda: 2)  # which measure a fixed number of times
    monkeypatch.setattr(processes, "from_first", lambda ask: ask())
    roofline.measured(groups, (1, 8), Bucket(5, 2), PassSettings.of(settings, False))
    assert ran == [(count, {Stop.SAMPLE_CAP}) for count in passes for _ in range(len(groups))]


@pytest.mark.measured
@pytest.mark.parametrize(
    ("chunk_passes", "chunks_s", "pass_s"),
    [
        (16, {1: 2.8, 3: 2 + 0.8 / 3}, 2 + 0.8 / 16),
        (2, {1: 2.8, 2: 2.4}, 2.4),
        (1, {1: 2.8}, 2.8),
        (16, {1: 4.0, 3: 1.0}, 4 / 16),  # a busy machine: no pass takes less than its share of one chunk
        (16, {1: 2.0, 3: 2.5}, 2.0),
    ],
)
def test_what_a_chunk_starts_with_is_shared_by_its_passes(tiny, monkeypatch, chunk_passes, chunks_s, pass_s):
    """A chunk of all its passes would take too long; seconds a pass in chunks of one and of several."""

    def seconds(groups, lanes, bucket, settings):
        return chunks_s[settings.stages.max_steps + 1 - int(lanes(1).progress.total_steps[0])]

    monkeypatch.setattr(DeviceGroups, "seconds", seconds)
    settings = PassSettings.of(CramSettings(chunk_passes=chunk_passes), False)
    found = roofline.measured(DeviceGroups(tiny), (1, tiny.config.width), Bucket(5, 2), settings)
    assert found == pytest.approx(pass_s)


@pytest.mark.measured
def test_passes_are_guessed_from_the_weights_and_the_rate_of_a_product(tiny, monkeypatch):
    """Twice the weights read with one row, four FLOPs a weight and token at the rate with many."""
    seconds = iter([1e-6, 3e-6, 1e-3 + 1e-6])  # nothing, a row with the head, many rows
    monkeypatch.setattr(roofline, "fastest", lambda measure, at_most: next(seconds))
    monkeypatch.setattr(roofline, "CACHED", 0)
    read = sum(leaf.size for leaf in jax.tree.leaves(tiny))
    if not tiny.config.tied_head:
        read -= tiny.embedding_VxD.size
    heads, layers = (
        read / size / tiny.config.width for size in (tiny.config.vocab_size, tiny.config.mlp_width)
    )
    found = roofline.guessed(tiny)
    assert found.fixed_s == pytest.approx(tiny.config.num_layers * roofline.LAYER_S + 2 * heads * 2e-6)
    assert found.token_s == pytest.approx(2 * layers * 1e-3 / 1024 / roofline.EFFICIENCY)


@pytest.mark.measured
@pytest.mark.parametrize(
    ("products_us", "row_us"),
    [
        ((101, 110, 700), 600 / 65536),  # an H200: 1,024 rows take no longer than nothing
        ((90, 500), 400 / 8192),
        ((90, 95, 98), 98 / 65536),  # not even the largest product shows: it takes at most so long
    ],
)
def test_the_rate_is_that_of_a_product_that_outlasts_its_dispatch(tiny, monkeypatch, products_us, row_us):
    seconds = iter([1e-6 * us for us in (100, *products_us)])
    monkeypatch.setattr(roofline, "fastest", lambda measure, at_most: next(seconds))
    weights = sum(leaf.size for leaf in jax.tree.leaves(tiny))
    if not tiny.config.tied_head:
        weights -= tiny.embedding_VxD.size
    layers = weights / tiny.config.mlp_width / tiny.config.width
    expected = 2 * layers * 1e-6 * row_us / roofline.EFFICIENCY
    assert roofline.guessed(tiny).token_s == pytest.approx(expected)
    assert next(seconds, None) is None


@pytest.mark.slow
@pytest.mark.measured
def test_a_short_text_in_the_passes_of_a_long_one_can_be_read_again(tmp_path, monkeypatch):
    """One wide bucket pads a text of a few tokens many times over, as on a GPU whose passes start slowly."""
    monkeypatch.setattr(fitting, "cache_directory", lambda: None)
    monkeypatch.setattr(roofline, "guessed", lambda model: PassTime(1.0, 1e-9))
    monkeypatch.setattr(roofline, "measured", lambda *arguments: 1.0)
    long = "The lamp was lit, and nobody came to the door that night, nor on the next. " * 2
    run = api.cram(
        api.load_model(), ["Oh", long], learning_rates=0.5, max_steps=3, mode="full", out=tmp_path / "run"
    )
    assert set(run.rows(["bucket_tokens"])["bucket_tokens"].to_pylist()) == {72}
    lanes = api.decode(api.load_run(tmp_path / "run"))
    assert [lane.sample_id for lane in lanes] == [0, 1]


def test_a_device_that_is_too_small_for_what_is_measured_leaves_the_roofline(
    tiny, cache, passes, monkeypatch
):
    def measured(groups, mem_shape, bucket, settings):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr(roofline, "measured", measured)
    time = fit_run(tiny, SETTINGS, LENGTHS).plan.time
    assert (time.fixed_s, time.token_s) == (0.08 + fitting.HOST_S / SETTINGS.chunk_passes, 0.012)


def test_a_fit_of_another_mesh_or_number_of_processes_does_not_serve(tiny, cache, passes, monkeypatch):
    """How many passes run at once would be another number."""
    fit = fit_run(tiny, SETTINGS, LENGTHS)
    assert fit.devices == ("cpu: cpu", "mesh: {'lanes': 1, 'fsdp': 1, 'model': 1}", "processes: 1")
    other = dataclasses.replace(fit, devices=(*fit.devices[:2], "processes: 2"), remat=True)
    assert fit_run(tiny, SETTINGS, LENGTHS, before=other) == dataclasses.replace(fit, note="")
