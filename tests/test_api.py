"""A run from Python: rows, summary, resuming, refusals, memory that runs out."""

import dataclasses
import inspect
import json
import typing

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from jax.errors import JaxRuntimeError
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from jaxcram import api, decode, forward, report
from jaxcram.cli import cram as cram_program
from jaxcram.cram import chunk
from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.settings import CramSettings, OptimizerSettings, StageSettings
from jaxcram.cram.start import initial_embeddings
from jaxcram.errors import UserError
from jaxcram.options import TEXT_OPTIONS, CramOptions
from jaxcram.results.table import Job
from jaxcram.text.tokens import Tokenizer
from tests.cram.conftest import tiny  # noqa: F401
from tests.faults.files import events

STAGES = StageSettings(max_steps_per_token=40)
SETTINGS = CramSettings(learning_rates=(0.1, 1.0), stages=STAGES, token_budget=64)


@pytest.fixture(scope="module")
def model(tiny):  # noqa: F811
    """The random model with one word a token."""
    backend = Backend(models.WordLevel({f"w{i}": i for i in range(tiny.config.vocab_size)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return api.Model(tiny, Tokenizer(backend, name="tiny", bos_token=None, eos_token=None), "tiny")


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(5)
    return [" ".join(f"w{i}" for i in rng.integers(0, 48, n)) for n in (12, 20)]


@pytest.fixture(scope="module")
def run(model, texts, tmp_path_factory):
    return api.cram(
        model, texts, out=tmp_path_factory.mktemp("run") / "out", settings=SETTINGS, verbose=False
    )


def test_the_users_jax_configuration_changes_no_bit_and_is_kept(run, model, texts, tmp_path):
    with (
        jax.enable_x64(True),
        jax.default_matmul_precision("bfloat16"),
        jax.threefry_partitionable(False),
        jax.numpy_rank_promotion("raise"),
    ):
        again = api.cram(model, texts, out=tmp_path / "out", settings=SETTINGS, verbose=False)
        assert jax.config.jax_enable_x64
    assert again.rows().equals(run.rows())
    assert again.settings == run.settings


def rows_by_lane(run):
    lanes_ = {}
    for row in run.rows().to_pylist():
        lanes_.setdefault(Job(row["sample_id"], row["learning_rate"], row["seed"]), []).append(row)
    return lanes_


def test_rows_record_every_stage_of_a_lane(run):
    assert len(rows_by_lane(run)) == 4
    for job, rows in rows_by_lane(run).items():
        *exact, last = rows
        lane = next(
            x for x in run.summary["lanes"] if Job(x["sample_id"], x["learning_rate"], x["seed"]) == job
        )
        assert [row["stage_seq_len"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(row["exact"] and row["final_convergence"] == 1.0 for row in exact)
        assert np.cumsum([row["steps"] for row in rows]).tolist() == [row["steps_taken"] for row in rows]
        assert [row["stop_reason"] for row in exact] == [None] * len(exact)
        assert (last["stop_reason"], last["exact"], last["steps"]) == ("stage_cap", False, 40)
        assert (lane["horizon"], lane["steps"], lane["stop_reason"]) == (
            len(exact),
            last["steps_taken"],
            "stage_cap",
        )
        assert lane["target_tokens"] == len(rows[0]["target_ids"]) == last["num_input_tokens"]
        assert {row["mesh"] for row in rows} == {"lanes:1,fsdp:1,model:1"}
        assert rows[0]["initialization_embedding"] is not None
        assert all(row["initialization_embedding"] is None for row in rows[1:])


def test_greedy_decoding_agrees_with_teacher_forcing_on_every_lane(run):
    assert any(lane["horizon"] > 1 for lane in run.summary["lanes"])
    for lane in run.summary["lanes"]:
        if lane["horizon"]:
            assert (lane["tf_accuracy"], lane["exact_accuracy"]) == (1.0, 1.0)
            assert lane["exact_first_mismatch"] is None
        else:
            assert lane["exact_accuracy"] is None
    assert run.summary["example"]["identical"]


def test_saved_embeddings_are_the_measured_ones(run, model):
    """Re-measured from the rows alone: accuracy, loss and information gain as recorded."""
    for rows in rows_by_lane(run).values():
        ids = np.array(rows[0]["target_ids"], np.int32)
        for row in rows:
            n, mem = row["stage_seq_len"], np.array([row["embedding"]], np.float32)
            forced = np.asarray(decode.teacher_forced(model.decoder, mem, ids[None, :]))[0]
            assert np.mean(forced[:n] == ids[:n]) == row["final_convergence"]
            logits = model.decoder.logits(forward.predict(model.decoder, mem, ids[None, :]))[0]
            nll = np.log(np.sum(np.exp(logits), axis=1)) - np.take_along_axis(logits, ids[:, None], 1)[:, 0]
            np.testing.assert_allclose(nll[:n].mean(), row["final_loss"], rtol=1e-4, atol=1e-5)
            plain = model.decoder.logits(model.decoder(model.decoder.embed(ids[None, :])))[0][:-1]
            alone = np.log(np.sum(np.exp(plain), axis=1)) - np.take_along_axis(plain, ids[1:, None], 1)[:, 0]
            gain = (alone[: n - 1].sum() - nll[1:n].sum()) / np.log(2)
            np.testing.assert_allclose(row["information_gain_bits"], gain, rtol=1e-3, atol=1e-3)


def test_learning_rates_share_the_initial_embedding_to_the_bit(run, model):
    starts = {job: rows[0]["initialization_embedding"] for job, rows in rows_by_lane(run).items()}
    for sample_id in (0, 1):
        assert starts[Job(sample_id, 0.1, 0)] == starts[Job(sample_id, 1.0, 0)]
    assert starts[Job(0, 0.1, 0)] != starts[Job(1, 0.1, 0)]
    (other_seed,) = initial_embeddings(model.decoder, [Job(0, 0.1, 1)], SETTINGS)
    assert starts[Job(0, 0.1, 0)] != other_seed.tolist()
    assert 0 <= other_seed.min() < other_seed.max() < 0.02


def test_the_same_command_again_computes_nothing(run, model, texts):
    before = {file: file.stat().st_mtime_ns for file in (run.path / "rows").iterdir()}
    again = api.cram(model, texts, out=run.path, settings=SETTINGS, verbose=False)
    assert again.summary == run.summary
    assert [event["event"] for event in events(run.path)].count("start") == 1
    assert {file: file.stat().st_mtime_ns for file in (run.path / "rows").iterdir()} == before


def test_a_second_start_finishes_only_what_is_missing(run, model, texts, tmp_path):
    out = tmp_path / "copy"
    api.cram(model, texts, out=out, settings=SETTINGS, verbose=False)
    missing = out / "rows" / f"{Job(1, 0.1, 0).key}.parquet"
    missing.unlink()
    kept = {file: file.stat().st_mtime_ns for file in (out / "rows").iterdir()}
    again = api.cram(model, texts, out=out, settings=SETTINGS, verbose=False)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert missing.exists()
    alone = next(x for x in again.summary["lanes"] if (x["sample_id"], x["learning_rate"]) == (1, 0.1))
    assert again.summary["lane_steps"] == alone["steps"], "another lane was run again"
    assert rows_by_lane(again) == rows_by_lane(run), "a lane that was run again differs, if only by a bit"
    kept_lanes = [x for x in again.summary["lanes"] if x is not alone]
    assert kept_lanes == [x for x in run.summary["lanes"] if (x["sample_id"], x["learning_rate"]) != (1, 0.1)]


def test_other_settings_in_the_same_directory_are_refused(run, model, texts):
    with pytest.raises(UserError) as error:
        api.cram(model, texts, out=run.path, settings=SETTINGS, num_memory=2, verbose=False)
    assert str(error.value) == (
        f"{run.path}: the run has other settings (num_memory: was 1, is 2); choose another directory or the "
        "run's own settings; only texts, learning_rates and seeds may be added"
    )


def test_an_interrupted_run_keeps_its_finished_lanes(model, texts, tmp_path, monkeypatch, run):
    out = tmp_path / "interrupted"
    original = chunk.run_chunk

    def interrupting(*arguments):
        if len(list((out / "rows").glob("*.parquet"))) >= 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(chunk, "run_chunk", interrupting)
    with pytest.raises(KeyboardInterrupt):
        api.cram(model, texts, out=out, settings=SETTINGS, verbose=False)
    part = api.load_run(out)
    ended = part.summary["lanes"]
    assert (part.finished, part.summary["lanes_in_all"]) == (False, 4)
    assert len(ended) == len(list((out / "rows").iterdir()))
    same = ("horizon", "target_tokens", "steps", "stop_reason", "information_gain_bits", "tf_tokens")
    keys = [(lane["sample_id"], lane["learning_rate"]) for lane in ended]
    whole = {(lane["sample_id"], lane["learning_rate"]): lane for lane in run.summary["lanes"]}
    assert [[lane[name] for name in same] for lane in ended] == [
        [whole[key][name] for name in same] for key in keys
    ]
    assert {lane["exact_accuracy"] for lane in ended} == {None}
    monkeypatch.setattr(chunk, "run_chunk", original)
    finished = api.cram(model, texts, out=out, settings=SETTINGS, verbose=False)
    assert finished.summary["lanes"] == run.summary["lanes"]
    assert rows_by_lane(finished) == rows_by_lane(run)


def test_out_of_memory_halves_the_budget_and_is_reported(model, texts, tmp_path, monkeypatch, run):
    original, tried = chunk.run_chunk, []

    def small_device(model_, seats, bucket, *others):
        tried.append(bucket.tokens * bucket.lanes)
        if tried[-1] > 12:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return original(model_, seats, bucket, *others)

    monkeypatch.setattr(chunk, "run_chunk", small_device)
    finished = api.cram(model, texts, out=tmp_path / "small", settings=SETTINGS)
    assert tried[:3] == [16, 16, 12]  # 4 lanes of 4 tokens; of at most 48, of at most 24, of at most 12
    assert finished.summary["token_budget"] == 12
    notes = [json.loads(line).get("note") for line in (finished.path / "log.jsonl").read_text().splitlines()]
    assert "out of device memory: going on as with token_budget=12" in notes
    assert [lane["stop_reason"] for lane in finished.summary["lanes"]] == ["stage_cap"] * 4


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("fitting", [0, 3])
def test_running_out_of_memory_inside_a_chunk_loses_nothing(
    model, texts, tmp_path, monkeypatch, fitting, at_once
):
    """The seats were given away by then: their lanes go on from what the host knows of them.

    A device says so at once, or, as most do, when what the chunk has measured is read.
    """
    run_chunk, wait, large = chunk.run_chunk, DeviceGroups.wait, []

    def check(bucket):
        large.append(bucket.tokens * bucket.lanes > 12)
        if sum(large) > fitting and large[-1]:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    def started(model_, seats, bucket, *others):
        after = run_chunk(model_, seats, bucket, *others)
        check(bucket)
        return after

    def read(self, turns):
        chunk, result = wait(self, turns)
        check(chunk.turn.bucket)
        return chunk, result

    if at_once:
        monkeypatch.setattr(chunk, "run_chunk", started)
    else:
        monkeypatch.setattr(DeviceGroups, "wait", read)
    smaller = dataclasses.replace(SETTINGS, stages=dataclasses.replace(STAGES, max_steps=60))
    finished = api.cram(model, texts, out=tmp_path / "small", settings=smaller, verbose=False)
    assert finished.summary["token_budget"] == 12
    monkeypatch.undo()
    asked = dataclasses.replace(smaller, token_budget=12)
    plain = api.cram(model, texts, out=tmp_path / "plain", settings=asked, verbose=False)
    if fitting:  # the first chunks had other shapes, which round differently, but no step is lost or doubled
        for rows in rows_by_lane(finished).values():
            assert [row["stage_seq_len"] for row in rows] == list(range(1, len(rows) + 1))
            steps = np.cumsum([row["steps"] for row in rows])
            assert steps.tolist() == [row["steps_taken"] for row in rows]
        assert [x["steps"] for x in finished.summary["lanes"]] == [x["steps"] for x in plain.summary["lanes"]]
    else:
        assert rows_by_lane(finished) == rows_by_lane(plain)


def test_one_lane_that_never_fits_is_a_user_error(model, texts, tmp_path, monkeypatch):
    def no_device(*arguments):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr(chunk, "run_chunk", no_device)
    for remat, remedy in ((None, "dtype=bfloat16"), (True, "dtype=bfloat16"), (False, "remat")):
        settings = dataclasses.replace(SETTINGS, remat=remat)
        with pytest.raises(UserError, match=f"out of device memory with one lane in a pass: use {remedy}"):
            api.cram(model, texts, out=tmp_path / f"none{remat}", settings=settings, verbose=False)


def test_one_lane_that_does_not_fit_is_recomputed(model, texts, tmp_path, monkeypatch):
    original, tried = chunk.run_chunk, []

    def small_device(model_, seats, bucket, settings, *others):
        tried.append((bucket.lanes, settings.remat))
        if not settings.remat:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return original(model_, seats, bucket, settings, *others)

    monkeypatch.setattr(chunk, "run_chunk", small_device)
    finished = api.cram(model, texts, out=tmp_path / "out", settings=SETTINGS, verbose=False)
    assert tried[0] == (4, False)
    assert set(tried[tried.index((1, True)) :]) == {(1, True)}
    assert finished.summary["remat"]
    assert [lane["stop_reason"] for lane in finished.summary["lanes"]] == ["stage_cap"] * 4


def test_other_runtime_errors_are_raised(model, texts, tmp_path, monkeypatch):
    def broken(*arguments):
        raise JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(chunk, "run_chunk", broken)
    with pytest.raises(JaxRuntimeError, match="INTERNAL"):
        api.cram(model, texts, out=tmp_path / "broken", settings=SETTINGS, verbose=False)


@pytest.mark.parametrize(("trajectory", "kept"), [("horizon", 1), ("none", 0)])
def test_trajectory_selects_the_stored_embeddings(model, texts, tmp_path, trajectory, kept, run):
    finished = api.cram(
        model, texts[:1], out=tmp_path / "t", settings=SETTINGS, trajectory=trajectory, verbose=False
    )
    for job, rows in rows_by_lane(finished).items():
        held = [row["stage_seq_len"] for row in rows if row["embedding"] is not None]
        horizon = len(rows) - 1
        assert held == [horizon] * kept if horizon else held == []
        assert rows[0]["initialization_embedding"] == rows_by_lane(run)[job][0]["initialization_embedding"]
    if not kept:
        with pytest.raises(UserError, match="no embedding of an exact prefix was kept"):
            api.decode(finished, model)
    unknown = {"trajectory_length": None, "trajectory_components": None}
    assert finished.as_published() == [
        {
            **vars(job),
            "tokens": len(rows),
            "information_gain_bits": rows[-1]["information_gain_bits"],
            **unknown,
        }
        for job, rows in rows_by_lane(finished).items()
    ]
    assert finished.table(as_published=True).count("not stored") == 8  # two rates, two counts, two columns
    assert all(row["vector_norm"] for rows in rows_by_lane(finished).values() for row in rows)


@pytest.mark.slow
def test_full_cramming_may_stop_at_a_share_of_the_tokens(model, texts, tmp_path):
    options = {"num_memory": 4, "learning_rates": 0.5, "max_steps": 100, "mode": "full", "token_budget": 64}
    options |= {"max_tokens": 5, "verbose": False}
    source = tmp_path / "texts.txt"
    source.write_text("\n\n".join(texts))
    finished = api.cram(model, str(source), out=tmp_path / "run", full_threshold=0.6, **options)
    for lane in finished.summary["lanes"]:
        (row,) = rows_by_lane(finished)[Job(lane["sample_id"], lane["learning_rate"], lane["seed"])]
        assert (lane["stop_reason"], row["exact"], row["convergence_threshold"]) == ("converged", False, 0.6)
        assert (lane["tf_accuracy"], lane["tf_tokens"], lane["decode_tokens"]) == (0.6, 3, 5)
        assert lane["horizon"] == row["exact_prefix"] == lane["exact_first_mismatch"]
    assert " 0/2 " in finished.table()
    assert "ended by: converged 2" in report.notes(finished.summary)
    with pytest.raises(UserError, match=r"full_threshold: was 0\.6, is 1\.0"):
        api.cram(model, str(source), out=tmp_path / "run", **options)


def test_full_mode_reports_the_whole_target(model, texts, tmp_path):
    stages = StageSettings(mode="full", max_steps=60)
    finished = api.cram(
        model,
        texts[:1],
        out=tmp_path / "full",
        settings=SETTINGS,
        stages=stages,
        num_memory=2,
        seeds=(0, 1),
        verbose=False,
    )
    assert len(finished.summary["lanes"]) == 4
    for lane in finished.summary["lanes"]:
        (row,) = rows_by_lane(finished)[Job(lane["sample_id"], lane["learning_rate"], lane["seed"])]
        assert row["stage_seq_len"] == lane["decode_tokens"] == lane["target_tokens"] == 12
        assert lane["tf_accuracy"] == row["final_convergence"]
        assert np.array(row["embedding"]).shape == (2, model.decoder.config.width)
        # Teacher forcing and greedy decoding part at the first wrong token, and not before.
        assert lane["tf_first_mismatch"] == lane["exact_first_mismatch"]
        assert lane["horizon"] == (12 if lane["tf_first_mismatch"] is None else lane["tf_first_mismatch"])
        assert row["vector_norm"] == lane["vector_norm"]
        assert row["trajectory_length"] is None
    header = finished.table().partition("\n\n")[2].splitlines()[0]
    assert header.split() == ["texts", "lr", "norm", "rel.", "norm"]
    assert {row["convergence_threshold"] for row in finished.rows().to_pylist()} == {1.0}
    for ask in (finished.as_published, lambda: finished.table(as_published=True)):
        with pytest.raises(UserError, match="a run of full cramming, which has no stages to count"):
            ask()


def test_decoded_text_is_the_original_up_to_the_horizon(run, model, texts):
    decoded = api.decode(run, model)
    assert decoded, "no lane has a horizon"
    for lane in decoded:
        assert lane.identical
        assert lane.text == lane.original
        assert texts[lane.sample_id].startswith(lane.text)


def test_table(run):
    header, *lines = run.table().splitlines()
    columns = "texts lr lanes empty target horizon gain steps TF exact cached mismatch"
    assert " ".join(header.split()) == columns
    assert [line.split()[:3] for line in lines[:2]] == [["text", "0.1", "2"], ["text", "1", "2"]]
    horizons = [lane["horizon"] for lane in run.summary["lanes"] if lane["learning_rate"] == 0.1]
    assert lines[0].split()[5] == f"{np.mean(horizons):.1f}±{np.std(horizons, ddof=1):.1f}"
    lines = [line.split() for line in run.table(per_text=True).splitlines()]
    assert [line[0] for line in lines if line] == ["text", "0", "1", "text", "0", "1"]


def recomputed(shard):
    """A lane's figures by both rules, from its Parquet file, with pyarrow and numpy alone."""
    rows = pq.read_table(shard).to_pylist()
    points = np.array([row["embedding"] for row in rows], np.float64).reshape(len(rows), -1)
    exact = [i for i, row in enumerate(rows) if row["exact"]]
    assert exact == list(range(len(exact)))

    def of(count):
        moves = np.sqrt(np.sum((points[1:count] - points[: count - 1]) ** 2, axis=1)) if count else []
        components = 0
        if count > 1:
            variances = np.linalg.svd(points[:count] - points[:count].mean(axis=0), compute_uv=False) ** 2
            while np.sum(variances[:components]) < 0.99 * np.sum(variances):
                components += 1
        bits = rows[count - 1]["information_gain_bits"] if count else 0.0
        return bits, pytest.approx(sum(moves)), components

    stages = len(rows)  # each adds one token
    return {
        "horizon": len(exact),
        **dict(zip(THREE, of(len(exact)), strict=True)),
        "as_published": {"tokens": stages, **dict(zip(THREE, of(stages), strict=True))},
    }


THREE = ("information_gain_bits", "trajectory_length", "trajectory_components")


@pytest.fixture(scope="module")
def run_of_two_vectors(model, tmp_path_factory):
    """Short texts at one rate, in two vectors: a target that becomes exact, and stages that come free."""
    settings = dataclasses.replace(
        SETTINGS, learning_rates=(1.0,), num_memory=2, stages=StageSettings(max_steps_per_token=300)
    )
    out = tmp_path_factory.mktemp("two") / "out"
    return api.cram(model, ["w3 w9 w1", "w7 w7 w7 w7 w8 w2"], out=out, settings=settings, verbose=False)


@pytest.mark.parametrize("name", ["run", pytest.param("run_of_two_vectors", marks=pytest.mark.slow)])
def test_published_figures_are_those_of_the_rows(name, request):
    run = request.getfixturevalue(name)
    by_lane = {Job.of_row(lane): lane for lane in run.summary["lanes"]}
    published = {Job.of_row(lane): lane for lane in run.as_published()}
    for job, lane in by_lane.items():
        expected = recomputed(run.path / "rows" / f"{job.key}.parquet")
        assert {name: lane[name] for name in expected} == expected
        assert published[job] == vars(job) | expected["as_published"]
    gained = {lane["as_published"]["tokens"] - lane["horizon"] for lane in by_lane.values()}
    assert gained == ({1} if name == "run" else {0})
    free = [row for rows in rows_by_lane(run).values() for row in rows[1:] if not row["steps"]]
    assert free or name == "run"


def test_rows_have_the_norm_of_their_embedding(run, run_of_two_vectors, model):
    embedded = np.asarray(model.decoder.embed(np.arange(48)[None])[0], np.float64)
    unit = np.mean(np.linalg.norm(embedded, axis=1))
    for one in (run, run_of_two_vectors):
        lanes = {Job.of_row(lane): lane for lane in one.summary["lanes"]}
        for job, rows in rows_by_lane(one).items():
            norms = [np.mean(np.linalg.norm(np.array(row["embedding"]), axis=1)) for row in rows]
            assert [row["vector_norm"] for row in rows] == pytest.approx(norms)
            assert [row["relative_norm"] for row in rows] == pytest.approx(np.array(norms) / unit, rel=1e-6)
            if horizon := lanes[job]["horizon"]:
                assert lanes[job]["vector_norm"] == rows[horizon - 1]["vector_norm"]
                assert lanes[job]["relative_norm"] == rows[horizon - 1]["relative_norm"]


def test_generate_stops_at_the_end_and_refuses_what_does_not_fit(model):
    text = api.generate(model, "w1 w2", max_new_tokens=5)
    assert text.split()[:2] == ["w1", "w2"]
    assert len(text.split()) == 7
    assert api.generate(model, "w1 w2", max_new_tokens=5, temperature=1.0, seed=1) == api.generate(
        model, "w1 w2", max_new_tokens=5, temperature=1.0, seed=1
    )
    with pytest.raises(UserError, match="exceed the model's 64 positions"):
        api.generate(model, "w1 w2", max_new_tokens=63)


# Names, values and what they look like


def test_flat_settings_equal_the_flags():
    settings = CramSettings.of(
        learning_rates=0.1, max_steps=200, mode="full", beta1=np.float32(0.5), seeds=[1, 2]
    )
    assert settings == CramSettings(
        learning_rates=(0.1,),
        seeds=(1, 2),
        stages=StageSettings(mode="full", max_steps=200),
        optimizer=OptimizerSettings(beta1=0.5),
    )
    assert CramSettings.of(settings, max_steps=7).stages == StageSettings(mode="full", max_steps=7)
    assert set(inspect.signature(api.cram).parameters) >= set(CramSettings.names())
    flags = {name for docs in cram_program.TOPICS.values() for name in docs}
    assert set(typing.get_type_hints(CramOptions)) <= flags
    assert set(typing.get_type_hints(CramOptions)) == {*CramSettings.names(), *TEXT_OPTIONS}
    assert inspect.signature(api.cram).parameters["max_steps"].default == 10_000


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"max_step": 3}, "no setting 'max_step'; did you mean max_steps?"),
        ({"max_steps": "3"}, "max_steps '3' must be a whole number"),
        ({"max_steps": 3.5}, "max_steps 3.5 must be a whole number"),
        ({"max_steps": True}, "max_steps True must be a whole number"),
        ({"learning_rates": "0.1"}, "learning_rates '0.1' must be a number"),
        ({"temperature_squared": 1}, "temperature_squared 1 must be True or False"),
        ({"mode": 1}, "mode 1 must be a word"),
        ({"learning_rates": ()}, "learning_rates and seeds must each name at least one value"),
        ({"remat": "yes"}, "remat 'yes' must be True, False or None"),
    ],
)
def test_wrong_options_are_one_line_errors(model, texts, tmp_path, options, line):
    with pytest.raises(UserError) as refusal:
        api.cram(model, texts, out=tmp_path / "run", **options)
    assert str(refusal.value) == line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["w1 w2", None], "texts: entry 1 is None, not a text; remove it, or give a string"),
        (["w1 w2", " "], "texts: entry 1 is ' ', not a text; remove it, or give a string"),
        ([], "texts: the list is empty; give at least one text"),
    ],
)
def test_invalid_texts_are_one_line_errors(model, tmp_path, given, line):
    with pytest.raises(UserError) as refusal:
        api.cram(model, given, out=tmp_path / "run")
    assert str(refusal.value) == line


def test_the_reprs_of_models_and_runs(model, run):
    assert repr(model) == "Model('tiny': llama, 0.0M parameters, 2 layers of width 32, float32)"
    assert repr(run) == f"Run({str(run.path)!r}: progressive, 4 lanes of 2 texts)"
