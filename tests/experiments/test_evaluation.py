"""Evaluations on disk: contexts crammed, endings scored, resumed and extended."""

import json

import numpy as np
import pytest

from jaxcram import api
from jaxcram.errors import UserError
from jaxcram.evaluate import multiple_choice
from jaxcram.evaluate.settings import CRAM, TaskSettings
from jaxcram.experiments import contexts, evaluation
from jaxcram.experiments.experiment import groups
from jaxcram.results.scores import COLUMNS
from tests.experiments.conftest import ITEMS, OPTIONS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tiny):
    return tiny


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory):
    """All six items at once, in full mode."""
    out = tmp_path_factory.mktemp("evaluation") / "whole"
    return api.evaluate(model, "cloze", data=data, out=out, verbose=False, **OPTIONS)


def log_probs(model, embedding, text):
    """-log p of each token of a text by NumPy from its logits; 0 for a token that nothing predicts."""
    logits = np.float64(api.logits(model, embedding, text))
    ids = model.tokenizer.encode(text)
    found = logits[np.arange(len(ids)), ids] - np.log(np.exp(logits).sum(-1))
    return np.nan_to_num(found)


def embeddings(run):
    rows = run.rows(["sample_id", "embedding", "exact"]).to_pylist()
    return {row["sample_id"]: np.asarray(row["embedding"], np.float32) for row in rows}


def test_scores_are_those_of_the_embeddings_of_the_crams(model, whole):
    rows, crammed = whole.scores().to_pylist(), embeddings(whole.crams)
    assert len(rows) == sum(8 * len(item["endings"]) for item in ITEMS)
    for row in rows:
        item = ITEMS[row["sample_id"]]
        context = item["context"].rstrip()
        text = f"{context} {item['endings'][row['ending']]}"
        embedding = None if row["score"].startswith("base") else crammed[row["sample_id"]]
        if row["score"].startswith("instead"):
            text, start = text[len(context) :], 0 if row["score"] == "instead_edge" else 1
        elif row["score"].endswith("ending"):
            start = len(context)
        else:
            start = 0 if row["score"] == "memory_edge" else 1
        scored = log_probs(model, embedding, text)[start:]  # a token is a byte
        np.testing.assert_allclose(row["log_prob"], scored.sum(), atol=1e-4)
        assert row["tokens"] == len(scored)
        assert row["label"] == item["label"]


def test_the_summary_counts_decisions_of_the_rows(whole):
    rows = whole.scores().to_pylist()
    lanes = {lane["sample_id"]: lane for lane in whole.crams.summary["lanes"]}
    converged = {i for i, lane in lanes.items() if lane["horizon"] == lane["target_tokens"]}
    assert {row["sample_id"] for row in rows if row["converged"]} == converged

    def right(item, score):
        of = [row for row in rows if (row["sample_id"], row["score"]) == (item, score)]
        return int(np.argmax([row["log_prob"] / row["tokens"] for row in of])) == of[0]["label"]

    summary = whole.summary
    assert (summary["task"], summary["items"], summary["converged"]) == ("cloze", 6, len(converged))
    assert 3 in converged
    for score, accuracy in summary["scores"].items():
        assert accuracy == pytest.approx(np.mean([right(i, score) for i in range(6)]))
    assert summary["base_accuracy"] == summary["scores"]["base"]
    assert summary["crammed_accuracy"] == summary["scores"]["memory"]
    expected = np.mean([right(i, "memory") for i in converged])
    assert summary["crammed_accuracy_converged"] == pytest.approx(expected)


class Scored:
    """Scores, and keeps which items it was asked for."""

    def __init__(self):
        self.items = []

    def __call__(self, decoder, choices, *memory):
        self.items += [item.id for item in choices]
        return multiple_choice.score(decoder, choices, *memory)


def test_an_evaluation_is_extended_by_items_and_repeats_nothing(model, data, whole, tmp_path, monkeypatch):
    grown = api.evaluate(model, "cloze", data=data, samples=[4, 1], out=tmp_path, verbose=False, **OPTIONS)
    assert grown.summary["items"] == 2
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "score", scored := Scored())
        patch.setattr(evaluation, "_SCORED", evaluation._SCORED._replace(size=3))
        grown = api.evaluate(model, "cloze", data=data, out=tmp_path, verbose=False, **OPTIONS)
    assert scored.items == [0, 2, 3, 5]
    assert grown.summary["items"] == 6
    assert len(list((tmp_path / "scores").iterdir())) == 1
    ours, theirs = grown.scores().to_pylist(), whole.scores().to_pylist()
    names = [name for name in COLUMNS if name != "log_prob"]
    assert [[row[name] for name in names] for row in ours] == [
        [row[name] for name in names] for row in theirs
    ]
    np.testing.assert_allclose(
        [row["log_prob"] for row in ours], [row["log_prob"] for row in theirs], atol=1e-5
    )
    again = api.evaluate(model, "cloze", data=data, out=tmp_path, verbose=False, **OPTIONS)
    assert again.summary == grown.summary


def test_an_interrupted_extension_leaves_no_summary_of_fewer_items(model, data, tmp_path, monkeypatch):
    options = {"data": data, "out": tmp_path, "verbose": False, **OPTIONS}
    api.evaluate(model, "cloze", samples=[3], **options)

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            api.evaluate(model, "cloze", samples=[3, 4], **options)
    with pytest.raises(UserError, match="the run is not finished"):
        api.load_evaluation(tmp_path)
    assert api.evaluate(model, "cloze", samples=[3, 4], **options).summary["items"] == 2


def test_other_items_settings_or_labels_are_refused(model, data, whole, tmp_path):
    def again(**changed):
        return api.evaluate(
            model, "cloze", out=whole.path, verbose=False, **({"data": data} | OPTIONS | changed)
        )

    with pytest.raises(UserError, match=r"max_steps: was 200, is 199"):
        again(max_steps=199)
    with pytest.raises(UserError, match=r"sample 5, 'then he', missing"):
        again(limit=5)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(item | {"label": 0}) + "\n" for item in ITEMS))
    with pytest.raises(UserError, match=r"sample 1 was 'ab cd ', is 'ab cd '"):
        again(data=str(other))
    with pytest.raises(UserError, match=r"learning_rates 0\.1, 0\.5: every context is crammed once"):
        again(learning_rates=[0.1, 0.5])
    with pytest.raises(UserError, match="trajectory none"):
        again(trajectory="none")


def test_a_context_of_one_token_is_refused(model, tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps(ITEMS[0] | {"context": "x"}) + "\n")
    with pytest.raises(UserError, match=r"item 0: its context has fewer than 2 tokens \(1\)"):
        api.evaluate(model, "cloze", data=str(file), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progressive_crams_answer_with_their_horizon(model, data, tmp_path):
    found = api.evaluate(
        model, "cloze", data=data, limit=2, out=tmp_path, verbose=False, mode="progressive", **OPTIONS
    )
    rows = found.crams.rows(["sample_id", "stage_seq_len", "embedding"]).to_pylist()
    kept = {row["sample_id"]: row for row in rows if row["embedding"] is not None}
    lanes = {lane["sample_id"]: lane for lane in found.crams.summary["lanes"]}
    assert {i: row["stage_seq_len"] for i, row in kept.items()} == {
        i: lane["horizon"] for i, lane in lanes.items()
    }
    run = contexts.embeddings(found.crams, model, [1, 0])
    np.testing.assert_array_equal(run.mem_IxKxD[1], np.asarray(kept[0]["embedding"], np.float32))
    assert found.summary["mode"] == "progressive"


def test_items_of_which_nothing_became_exact_are_wrong_and_their_base_is_scored(model, data, whole, tmp_path):
    """And there is nothing to knock out."""
    options = OPTIONS | {"max_steps": 1, "warmup_steps": 0}
    found = api.evaluate(
        model, "cloze", data=data, limit=2, out=tmp_path / "run", verbose=False, mode="progressive", **options
    )
    assert {lane["horizon"] for lane in found.crams.summary["lanes"]} == {0}
    summary = found.summary
    assert (summary["items"], summary["converged"], summary["crammed_accuracy"]) == (2, 0, 0.0)
    assert {row["score"] for row in found.scores().to_pylist()} == {"base", "base_ending"}
    theirs = {(row["sample_id"], row["ending"]): row["log_prob"] for row in whole.scores().to_pylist()
              if row["score"] == "base"}  # fmt: skip
    for row in found.scores().to_pylist():
        if row["score"] == "base":
            assert row["log_prob"] == pytest.approx(theirs[row["sample_id"], row["ending"]], abs=1e-5)
    with pytest.raises(UserError) as error:
        api.knockout(model, found, out=tmp_path / "knockout", verbose=False)
    assert str(error.value) == (
        f"{tmp_path / 'run'}: no sample has an embedding to knock out: nothing of any became exact, or all "
        "lanes diverged; cram again with more max_steps or other learning_rates"
    )
    assert not (tmp_path / "knockout").exists()


def test_items_without_a_usable_embedding_are_wrong_with_one(model, data, whole):
    task = TaskSettings(task="cloze", data=data)
    found = contexts.load(task, model, num_memory=1)
    crammed = contexts.embeddings(whole.crams, model, range(6))
    assert crammed.usable_I.all()
    assert [job.sample_id for job in crammed.jobs] == list(range(6))
    with pytest.raises(UserError, match="sample 7 has no lane"):
        contexts.embeddings(whole.crams, model, [0, 7])
    assert groups([0, 3, 64, 65, 200, 201], {3}, 2) == [[0, 2], [3, 4], [5]]
    assert [item.id for item in found.items] == list(range(6))


def test_the_table_shows_every_score(whole):
    table = whole.table()
    assert table.startswith("cloze: 6 items, ")
    assert [line.split()[0] for line in table.splitlines()[3:11]] == list(whole.summary["scores"])
    assert f"{whole.summary['base_accuracy']:.3f} [" in table
    assert repr(whole).startswith("Evaluation('")


def test_defaults_are_the_published_ones():
    assert (CRAM.stages.mode, CRAM.stages.max_steps, CRAM.num_memory) == ("full", 1000, 1)
