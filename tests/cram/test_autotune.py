import json
import threading
import types
from unittest import mock

import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from jaxcram.cram import autotune, chunk, lanes
from jaxcram.cram.engine import Engine
from jaxcram.cram.settings import CramSettings, StageSettings, TokenBudget
from jaxcram.cram.start import jobs_of
from jaxcram.errors import UserError


@pytest.fixture
def clock(tiny, monkeypatch):
    """Passes that take 1 ms and 10 us a token; the shapes that were timed."""
    shapes = []

    def seconds(model, bucket, num_memory, remat):
        shapes.append(bucket)
        return 1e-3 + 1e-5 * bucket.tokens * bucket.lanes

    monkeypatch.setattr(autotune, "_seconds", seconds)
    return shapes


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(autotune, "cache_directory", lambda: tmp_path)
    return tmp_path


def test_the_fit_finds_the_knee_and_the_largest_budget_that_gained(tiny, clock):
    points = list(autotune.timed(tiny, 1, False))
    # 39, 72, 91 and 98 tokens a millisecond: the last step gains too little.
    assert [tokens for tokens, _ in points] == [64, 256, 1024, 4096]
    assert {bucket.tokens for bucket in clock} == {64}
    cost = autotune.fit(points)
    assert cost.token_budget == 1024
    assert cost.knee == pytest.approx(100.0)


def test_running_out_of_device_memory_ends_the_search(tiny, monkeypatch):
    def seconds(model, bucket, num_memory, remat):
        if bucket.lanes > 4:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return 0.1

    monkeypatch.setattr(autotune, "_seconds", seconds)
    points = list(autotune.timed(tiny, 1, False))
    assert [tokens for tokens, _ in points] == [64, 256]
    assert autotune.fit(points).token_budget == 256


def test_if_four_times_the_lanes_do_not_fit_twice_as_many_are_tried(tiny, monkeypatch):
    tried = []

    def seconds(model, bucket, num_memory, remat):
        tried.append(bucket.lanes)
        if bucket.lanes > 8:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return {1: 0.1, 4: 0.2, 8: 0.38}[bucket.lanes]

    monkeypatch.setattr(autotune, "_seconds", seconds)
    points = list(autotune.timed(tiny, 1, False))
    assert tried == [1, 4, 16, 8]
    assert [tokens for tokens, _ in points] == [64, 256, 512]
    # Twice the tokens take 1.9 times as long, each 1.05 times as fast: a tenth for four times as many.
    assert autotune.fit(points).token_budget == 512
    assert autotune.fit([*points[:2], (512, 0.39)]).token_budget == 256


def test_slow_passes_are_not_made_larger(tiny, monkeypatch):
    monkeypatch.setattr(
        autotune, "_seconds", lambda model, bucket, *others: 0.2 + 1e-3 * bucket.tokens * bucket.lanes
    )
    assert [tokens for tokens, _ in autotune.timed(tiny, 1, False)] == [64, 256, 1024]


def test_a_device_without_memory_for_one_lane_is_an_error(tiny, monkeypatch):
    def seconds(model, bucket, num_memory, remat):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr(autotune, "_seconds", seconds)
    with pytest.raises(UserError, match="out of device memory at 1 lanes of 64 tokens; give token_budget=N"):
        list(autotune.timed(tiny, 1, False))


def test_an_unwritable_cache_is_not_an_error(tiny, clock, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(autotune, "cache_directory", lambda: tmp_path / "file")
    cost, told = autotune.pass_cost(tiny, 1, False)
    assert cost.token_budget == 1024
    assert "measured in" in told


def test_a_real_pass_is_timed(tiny, monkeypatch):
    monkeypatch.setattr(autotune, "ROUND_S", 0.0)
    chunks = []
    run_chunk = chunk.run_chunk

    def watched(*arguments):
        pool, result = run_chunk(*arguments)
        chunks.append(int(result.unpack().passes[0]))
        return pool, result

    monkeypatch.setattr(chunk, "run_chunk", watched)
    assert autotune._seconds(tiny, lanes.Bucket(8, 2), 1, False) > 0
    assert chunks == [4] * 5  # one compiles, one tells how many make a round, and there are three rounds


def test_a_pass_is_timed_while_every_core_runs_one(tiny, monkeypatch):
    """As in a run; the places of a CPU share its first device, and are one more than cores."""
    monkeypatch.setattr(autotune, "ROUND_S", 0.0)
    monkeypatch.setattr(autotune.mesh, "apart", lambda model: [model] * 3)
    whole = types.SimpleNamespace(is_multi_process=False, shape={"lanes": 2})
    of = autotune.mesh.of
    monkeypatch.setattr(autotune.mesh, "of", mock.Mock(side_effect=[whole, *[of(tiny)] * 20]))
    both = threading.Barrier(2, timeout=60)
    chunks, run_chunk = [], chunk.run_chunk

    def together(*arguments):
        chunks.append(threading.current_thread())
        if len(chunks) > 2:  # those before compile
            both.wait()
        return run_chunk(*arguments)

    monkeypatch.setattr(chunk, "run_chunk", together)
    assert autotune._seconds(tiny, lanes.Bucket(8, 2), 1, False) > 0
    assert [thread is threading.main_thread() for thread in chunks] == [True] * 2 + [False] * 8


def test_each_cpu_model_is_measured_separately(tiny, clock, cache, monkeypatch):
    autotune.pass_cost(tiny, 1, False)
    monkeypatch.setattr(autotune, "_device", lambda: "another")
    autotune.pass_cost(tiny, 1, False)
    assert len(list(cache.glob("pass_cost_*.json"))) == 2


def test_the_cost_is_measured_once_and_then_read(tiny, clock, cache):
    said: list[str] = []
    first, told = autotune.pass_cost(tiny, 1, False, said.append)
    assert "measured in" in told
    assert said == ["measuring once how many tokens a pass should hold on this device"]
    measured = len(clock)
    again, told = autotune.pass_cost(tiny, 1, False, said.append)
    assert len(said) == 1
    assert (again, len(clock)) == (first, measured)
    assert told.startswith("token budget 1024; the fixed cost of a pass equals 100 tokens")
    (file,) = cache.glob("pass_cost_*.json")
    assert json.loads(file.read_text()) == {"token_budget": 1024, "knee": pytest.approx(100.0)}
    autotune.pass_cost(tiny, 2, False)
    assert len(clock) == 2 * measured, "another number of embeddings is another pass"
    file.write_text("{damaged")
    assert autotune.pass_cost(tiny, 1, False)[0] == first
    assert len(clock) == 3 * measured


def test_auto_sizes_the_passes_of_a_run_and_reports_it(tiny, samples, clock, cache):
    settings = CramSettings(learning_rates=(0.1,), token_budget="auto", stages=StageSettings(max_steps=2))
    assert settings.token_budget == TokenBudget("auto")
    assert str(settings.token_budget) == "auto"
    run = Engine(tiny, samples, settings, jobs_of(samples, settings), 400)
    assert run.progress.token_budget == 1024
    assert run.progress.note.startswith("token budget 1024")
    # 400 lanes, knee 100, one device: sqrt(400 * 100 / (3 * 24)) lanes in the bucket of 24 tokens.
    assert run._scheduler.bucket(24).lanes == round(np.sqrt(400 * 100 / (3 * 24)))
    assert run._lanes.problem.length.tolist() == [len(sample.tokens) for sample in samples]
