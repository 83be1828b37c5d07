import dataclasses
import json
from unittest import mock

import jax
import pytest

from jaxcram.cram import chunk, pass_bytes, roofline
from jaxcram.cram import fit as fitting
from jaxcram.cram.fit import fit_of_json, fit_run
from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.cram.plan import PassTime, Plan, Work
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.devices import device_memory, mesh

LENGTHS = [12] * 6
SETTINGS = CramSettings(learning_rates=(0.1,))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def passes(monkeypatch):
    """Passes of 100 ms and 10 ms a token, and a tenth more where two run at once; what was timed."""
    timed = []

    def measured(groups, mem_shape, bucket, settings):
        timed.append((len(groups), bucket))
        return (0.1 + 0.01 * bucket.tokens * bucket.lanes) * (1.1 if len(groups) > 1 else 1)

    monkeypatch.setattr(roofline, "guessed", lambda model: PassTime(0.08, 0.012))
    monkeypatch.setattr(roofline, "measured", measured)
    return timed


def test_two_buckets_of_the_run_are_measured_and_the_plan_follows(tiny, cache, passes):
    fit = fit_run(tiny, SETTINGS, LENGTHS)
    work = Work.of(LENGTHS, 1, SETTINGS.stages)
    guess = Plan.best(work, PassTime(0.08, 0.012), 1, tiny.config.max_positions)
    assert [bucket in guess.buckets for _, bucket in passes] == [True] * len(passes)
    sizes = [bucket.tokens * bucket.lanes for _, bucket in passes]
    assert sizes[1] >= 3 * sizes[0]
    # Rounded to steps of a fifth, on a grid of powers of two.
    assert (fit.plan.time.fixed_s, fit.plan.time.token_s) == (2**-3.25, 2**-6.75)
    assert fit.plan == Plan.best(work, fit.plan.time, fit.plan.at_once, tiny.config.max_positions)
    assert fit.remat is False
    assert fit.note.startswith("a pass takes 1.1e+02 ms and 9.3 ms a token (measured in ")


def test_as_many_passes_run_at_once_as_is_predicted_to_be_fastest(tiny, cache, passes, monkeypatch):
    monkeypatch.setattr(mesh, "places", lambda mesh: 2)
    assert fit_run(tiny, SETTINGS, LENGTHS).plan.at_once == 2  # two passes in hardly more time than one
    assert [groups for groups, _ in passes] == [1, 1, 2]
    for file in cache.iterdir():
        file.unlink()
    slow = roofline.measured
    monkeypatch.setattr(
        roofline, "measured", lambda groups, *given: slow(groups, *given) * (2 if len(groups) > 1 else 1)
    )
    assert fit_run(tiny, SETTINGS, LENGTHS).plan.at_once == 1


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
    assert fit_of_json(stored) == fit
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
def test_passes_are_guessed_from_the_weights_and_the_rate_of_a_product(tiny, monkeypatch):
    """Twice the weights read with one row, four FLOPs a weight and token at the rate with many."""
    seconds = iter([2e-6, 1e-3])
    monkeypatch.setattr(roofline, "fastest", lambda measure, at_most: next(seconds))
    read = sum(leaf.size for leaf in jax.tree.leaves(tiny))
    if not tiny.config.tied_head:
        read -= tiny.embedding_VxD.size
    share = read / (tiny.config.mlp_width * tiny.config.width)
    found = roofline.guessed(tiny)
    assert found.fixed_s == pytest.approx(2e-4 + 2 * share * 2e-6)
    assert found.token_s == pytest.approx(2 * share * 1e-3 / roofline.ROWS / roofline.EFFICIENCY)
