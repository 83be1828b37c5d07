"""Curves: the points that a lane's passes make, against hand-made passes, a plain loop, and interruptions."""

import math

import numpy as np
import pytest

from jaxcram import api, decode
from jaxcram.cram import lanes, optimizer
from jaxcram.cram.curves import LaneCurve
from jaxcram.cram.lanes import Record
from jaxcram.cram.settings import CramSettings, OptimizerSettings, StageSettings
from jaxcram.cram.stages import Stop
from jaxcram.cram.start import initial_embeddings, jobs_of
from jaxcram.errors import UserError
from jaxcram.results.curves import COLUMNS
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample
from tests.cram import plain
from tests.cram.engines import engine
from tests.cram.test_resuming import assert_equal_runs, interrupted
from tests.test_api import SETTINGS, model, run, texts, tiny  # noqa: F401

JOB = Job(3, 0.5, 1)


def chunk(*passes: tuple, stop: Stop = Stop.RUNNING, loss: float = 0.25) -> Record:
    """Passes (prefix, horizon after it, steps before it); the last `stop` is as given."""
    prefix_P, horizon_P, step_P = np.array(passes, np.int32).T
    count = len(passes)
    stop_P = np.zeros(count, np.int32)
    stop_P[-1] = stop
    return Record(
        prefix=prefix_P,
        horizon=horizon_P,
        exact=horizon_P + 1,
        stage_steps=step_P,
        total_steps=step_P,
        stop=stop_P,
        correct=prefix_P - 1,
        loss=np.tile(np.array([loss, 3 * loss, 8.0, 8.0], np.float32), (count, 1)),
        nll=np.zeros((count, 4), np.float32),
        mem=step_P[:, None, None] * np.array([[3, 0], [0, 4]], np.float32),
    )


def curve(every: int, mode: str = "progressive") -> LaneCurve:
    constant = OptimizerSettings(schedule="constant")
    return LaneCurve(JOB, CramSettings(log_every=every, optimizer=constant, stages=StageSettings(mode=mode)))


def of_points(lane: LaneCurve, *names: str) -> list[tuple]:
    return [tuple(point[name] for name in names) for point in lane.rows]


def test_a_point_is_what_the_pass_measured():
    lane = curve(5)
    lane.take(chunk((2, 1, 4), (2, 2, 5), (3, 2, 6)))
    assert lane.rows == [
        {
            "sample_id": 3,
            "learning_rate": 0.5,
            "seed": 1,
            "point_index": 0,
            "step": 5,
            "prefix": 2,
            "horizon": 2,
            "loss": 0.5,
            "accuracy": 0.5,
            "step_learning_rate": 0.5,
            "embedding_norm": 25.0,
        }
    ]


def test_every_multiple_has_one_point_and_the_end_has_one():
    """Also where a lane waits for a longer pass (6), and starts a chunk with a step that it has measured."""
    lane = curve(3)
    lane.take(chunk((1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 0, 3), (1, 0, 4), (1, 0, 5), (1, 1, 6), (2, 1, 6)))
    lane.take(chunk((2, 1, 6), (2, 1, 7)))
    lane.take(chunk((2, 1, 8), (2, 1, 9), (2, 2, 10), (2, 2, 10), stop=Stop.COMPLETE))
    assert of_points(lane, "step", "prefix", "horizon") == [
        (0, 1, 0),
        (3, 1, 0),
        (6, 1, 1),
        (9, 2, 1),
        (10, 2, 2),
    ]
    assert of_points(lane, "point_index") == [(i,) for i in range(5)]


def test_the_last_point_replaces_one_of_the_same_step():
    lane = curve(3)
    lane.take(chunk((1, 0, 2), (1, 1, 3), (2, 1, 3)))
    lane.take(chunk((2, 2, 3), (2, 2, 3), stop=Stop.COMPLETE))
    assert of_points(lane, "point_index", "step", "prefix", "horizon") == [(0, 3, 2, 2)]


def test_a_lane_that_ends_at_once_has_one_point():
    lane = curve(100)
    lane.take(chunk((1, 4, 0), stop=Stop.COMPLETE))
    assert of_points(lane, "step", "prefix", "horizon") == [(0, 1, 4)]


def test_a_lane_resumes_with_another_interval():
    before, after, without = curve(10), curve(4), curve(0)
    before.take(chunk(*((1, 0, step) for step in range(12))))
    assert of_points(before, "step") == [(0,), (10,)]
    for lane in (after, without):
        lane.restore(list(before.rows))
        lane.take(chunk((1, 0, 17), (1, 0, 18), (1, 0, 19), (1, 0, 20), (1, 0, 21), stop=Stop.STAGE_CAP))
    assert of_points(after, "step") == [(0,), (10,), (20,), (21,)]
    assert of_points(without, "step") == [(0,), (10,)]


def test_values_that_are_not_finite_are_null():
    lane = curve(1)
    records = chunk((2, 0, 7), stop=Stop.NOT_FINITE, loss=float("nan"))
    records.mem[0, 0, 0] = np.inf
    lane.take(records)
    assert of_points(lane, "step", "loss", "embedding_norm", "accuracy") == [(7, None, None, 0.5)]


def test_the_horizon_of_full_mode_is_that_of_the_measurement():
    lane = curve(1, mode="full")
    lane.take(chunk((4, 0, 0), (4, 2, 1)))
    assert of_points(lane, "prefix", "horizon") == [(4, 1), (4, 3)]


def test_the_learning_rate_follows_the_schedule():
    settings = CramSettings(log_every=1)
    lane = LaneCurve(JOB, settings)
    steps = np.array([0, 1, 50, 99, 100, 101, 4095, 4096, 5050, 9999, 10_000], np.int32)
    for step in steps:
        lane.take(chunk((1, 0, step)))
    expected = optimizer.learning_rate(steps, np.float32(0.5), 10_000, settings.optimizer)
    np.testing.assert_allclose(
        of_points(lane, "step_learning_rate"), np.asarray(expected)[:, None], rtol=1e-6
    )
    # From 0 to the peak in 100 steps, and by the half cosine to min_lr, which it is half-way to at 5050.
    chosen = [
        point["step_learning_rate"] for point in lane.rows if point["step"] in (0, 50, 100, 5050, 10_000)
    ]
    assert chosen == pytest.approx([0.0, 0.25, 0.5, (0.5 + 1e-3) / 2, 1e-3], abs=1e-7)


@pytest.mark.slow
@pytest.mark.optimised
def test_curves_equal_those_of_a_plain_loop(tiny, samples):  # noqa: F811
    settings = CramSettings(
        learning_rates=(0.1, 1.0), token_budget=4, stages=StageSettings(max_steps_per_token=60), log_every=7
    )
    jobs = jobs_of(samples[:1], settings)
    run = engine(tiny, samples[:1], settings, jobs)  # noqa: F811
    ended = {lane.outcome.job: lane for lane in run.lanes(lambda progress: None)}
    procedure = lanes.PassSettings(settings.objective, settings.optimizer, settings.stages)
    for job in jobs:
        (start,) = initial_embeddings(tiny, [job], settings)
        target, measured = samples[job.sample_id].tokens, []
        plain.cram(
            tiny,
            target,
            start,
            job.learning_rate,
            procedure,
            run.fit.plan,
            measured,
        )
        first = {total: one for one in reversed(measured) for total in [one[1]]}
        kept = [first[total] for total in sorted(first) if total % 7 == 0 or total == max(first)]
        points = ended[job].curve
        assert [(point["prefix"], point["step"]) for point in points] == [one[:2] for one in kept], job
        for point, (n, step, right, scores, mem_KxD) in zip(points, kept, strict=True):
            assert point["horizon"] == (right if right >= n else n - 1)
            assert point["accuracy"] == np.mean(scores.correct[0, :n])
            np.testing.assert_allclose(point["loss"], np.mean(scores.loss[0, :n]), rtol=1e-6)
            norm = np.linalg.norm(np.asarray(mem_KxD, np.float64))
            assert point["embedding_norm"] == pytest.approx(norm, rel=1e-14)
            rate = optimizer.learning_rate(step, job.learning_rate, 10_000, settings.optimizer)
            assert point["step_learning_rate"] == pytest.approx(float(rate), rel=1e-6)
        row = ended[job].rows[-1]
        assert points[-1]["step"] == row["steps_taken"]
        assert (points[-1]["loss"], points[-1]["accuracy"]) == (row["final_loss"], row["final_convergence"])


# Runs on disk


OPTIONS = {"settings": SETTINGS, "verbose": False}


@pytest.fixture(scope="module")
def logged(model, texts, tmp_path_factory):  # noqa: F811
    return api.cram(model, texts, out=tmp_path_factory.mktemp("logged") / "out", log_every=5, **OPTIONS)


def test_logging_curves_does_not_change_rows(logged, run):  # noqa: F811
    assert_equal_runs(logged, run)


def test_a_run_has_the_curve_of_each_lane(logged):
    table = logged.curves()
    assert table.column_names == list(COLUMNS)
    steps = {}
    for point in table.to_pylist():
        steps.setdefault(Job.of_row(point), []).append(point["step"])
    ends = {
        Job(lane["sample_id"], lane["learning_rate"], lane["seed"]): lane["steps"]
        for lane in logged.summary["lanes"]
    }
    assert list(steps) == sorted(ends)
    for job, end in ends.items():
        assert steps[job] == [*range(0, end, 5), end]
    assert logged.curves(["step", "sample_id"]).column_names == ["step", "sample_id"]


def test_an_interrupted_run_ends_with_the_same_curves(logged, model, texts, tmp_path, monkeypatch):  # noqa: F811
    out = tmp_path / "out"
    for chunks in (1, 2, 2):
        interrupted(monkeypatch, 2, chunks, model, texts, out=out, log_every=5, **OPTIONS)
    finished = api.cram(model, texts, out=out, log_every=5, **OPTIONS)
    assert finished.curves().equals(logged.curves())
    assert_equal_runs(finished, logged)


def test_another_start_may_log_at_another_interval(logged, model, texts, tmp_path, monkeypatch):  # noqa: F811
    out = tmp_path / "out"
    interrupted(monkeypatch, 2, 2, model, texts, out=out, log_every=5, **OPTIONS)
    early = {path.stem for path in (out / "rows").iterdir()}
    finished = api.cram(model, texts, out=out, log_every=7, **OPTIONS)
    assert_equal_runs(finished, logged)
    before, steps = {}, {}
    for table, found in ((logged.curves(), before), (finished.curves(), steps)):
        for point in table.to_pylist():
            found.setdefault(Job.of_row(point).key, []).append(point["step"])
    for key, of_lane in steps.items():
        fives = [step for step in of_lane[:-1] if step % 5 == 0 and step % 7]
        cut = max(fives, default=0)
        sevens = range(math.ceil((cut + 1) / 7) * 7, of_lane[-1], 7)
        if key in early:
            assert of_lane == before[key]
        else:
            assert of_lane == sorted({*range(0, cut + 1, 5), *sevens, before[key][-1]})
    assert len(early) < len(steps)


def test_a_run_without_curves_is_reported_in_one_line(run):  # noqa: F811
    assert not (run.path / "curves").exists()
    with pytest.raises(UserError) as error:
        run.curves()
    assert str(error.value) == (
        f"{run.path}: no finished lane of this run has a curve; cram with log_every, such as 10"
    )
    with pytest.raises(UserError, match=r"log_every -1 must be 0 \(no curves\) or greater"):
        CramSettings(log_every=-1)


def test_full_mode_and_a_lane_without_a_step_have_curves(tiny):  # noqa: F811
    stages = StageSettings(mode="full", max_steps=12)
    settings = CramSettings(learning_rates=(0.1,), stages=stages, log_every=5)
    (start,) = initial_embeddings(tiny, [Job(0, 0.1, 0)], settings)
    known = np.asarray(decode.cached(tiny, start[None], 1)[0])
    targets = [Sample(0, "", known), Sample(1, "", np.array([1, 2, 3], np.int32))]
    ended = engine(tiny, targets, settings, jobs_of(targets, settings)).lanes(lambda progress: None)
    curves = {lane.outcome.job.sample_id: lane.curve for lane in ended}
    assert [(p["step"], p["prefix"], p["horizon"], p["accuracy"]) for p in curves[0]] == [(0, 1, 1, 1.0)]
    assert [(p["step"], p["prefix"]) for p in curves[1]] == [(0, 3), (5, 3), (10, 3), (12, 3)]
