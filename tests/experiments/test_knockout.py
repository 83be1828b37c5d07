"""Knockout runs on disk: of an evaluation's items, of a task, of texts; resumed, extended, refused."""

import json

import numpy as np
import pytest

from jaxcram import api
from jaxcram.errors import UserError
from jaxcram.evaluate.knockout import sweep
from jaxcram.evaluate.knockout_effects import effects
from jaxcram.experiments import knockout, subjects
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.experiments.conftest import ITEMS, OPTIONS, lively_model

pytestmark = pytest.mark.slow

LAYERS = 3


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):  # noqa: F811
    return lively_model(tiny_model, tmp_path_factory.mktemp("models") / "three", num_layers=LAYERS)


@pytest.fixture(scope="module")
def evaluation(model, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "run"
    return api.evaluate(model, "cloze", data=data, out=out, verbose=False, **OPTIONS)


@pytest.fixture(scope="module")
def found(model, evaluation, tmp_path_factory):
    out = tmp_path_factory.mktemp("knockout") / "run"
    return api.knockout(model, evaluation.path, out=out, layers="0,2;1", own_row=True, verbose=False)


def test_no_layer_is_the_crammed_answer_and_all_layers_the_base(evaluation, found):
    summary = found.summary
    assert summary["base_accuracy"] == evaluation.summary["base_accuracy"]
    assert summary["crammed_accuracy"] == evaluation.summary["crammed_accuracy"]
    for protocol in ("single", "forward", "reverse"):
        first, *_, last = summary[protocol]
        assert (first["layers"], last["layers"]) == ([], [0, 1, 2])
        assert first["accuracy"] == summary["crammed_accuracy"]
        assert last["accuracy"] == summary["base_accuracy"]
    assert [entry["layers"] for entry in summary["single"]] == [[], [0], [1], [2], [0, 1, 2]]
    assert [entry["layers"] for entry in summary["forward"]] == [[], [0], [0, 1], [0, 1, 2]]
    assert [entry["layers"] for entry in summary["reverse"]] == [[], [2], [1, 2], [0, 1, 2]]
    assert [entry["layers"] for entry in summary["layers"]] == [[0, 2], [1]]
    assert (summary["items"], summary["num_layers"]) == (6, LAYERS)
    assert summary["converged"] == evaluation.summary["converged"]


def test_rows_are_what_the_model_says_under_the_condition(model, evaluation, found):
    crams = {row["sample_id"]: row for row in evaluation.crams.rows().to_pylist()}
    rows = found.sweep().to_pylist()
    names = ["base", *sweep(LAYERS, sets=["0,2", "1"]).names]
    assert [row["condition"] for row in rows if row["sample_id"] == 2] == names * 2
    for row in rows:
        if row["own_row"] or row["condition"] in ("base", "none"):
            continue
        item, crammed = ITEMS[row["sample_id"]], crams[row["sample_id"]]
        context = item["context"].rstrip()
        embedding = np.asarray(crammed["embedding"], np.float32)
        ids = np.asarray(model.tokenizer.encode(context))
        logits = api.logits(model, embedding, context, knockout=row["condition"])
        assert row["tf_accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == ids))
        for ending, log_prob in zip(item["endings"], row["log_probs"], strict=True):
            text = f"{context} {ending}"
            logits = np.float64(api.logits(model, embedding, text, knockout=row["condition"]))
            ids = np.asarray(model.tokenizer.encode(text))
            each = logits[np.arange(len(ids)), ids] - np.log(np.exp(logits).sum(-1))
            np.testing.assert_allclose(log_prob, each[1:].sum(), atol=1e-4)
        assert row["right_sum"] == (int(np.argmax(row["log_probs"])) == item["label"])


def test_own_row_is_measured_beside_and_differs(found):
    rows = found.sweep().to_pylist()
    ours, published = ([row for row in rows if row["own_row"] == own_row] for own_row in (False, True))
    differ = {
        row["condition"]
        for row, other in zip(ours, published, strict=True)
        if not np.allclose(row["log_probs"], other["log_probs"], atol=1e-6)
    }
    # The row of the memory matters where a later layer of the text still sees it.
    assert differ == {"0", "1", "0-1", "0,2"}
    assert set(found.summary["own_row"]) == {"single", "forward", "reverse", "layers"}
    for name in ("single", "forward", "reverse"):
        assert found.summary["own_row"][name][0] == found.summary[name][0]


def test_masses_are_means_over_items(model, evaluation, found):
    from jaxcram.evaluate.attention import masses

    of_run = subjects.of_run(evaluation.path, model)
    memory_IxL = masses(model.decoder, of_run.targets, of_run.crammed.mem_IxKxD)
    np.testing.assert_allclose(found.summary["attention_mass"]["memory"], 100 * memory_IxL.mean(0), rtol=1e-6)
    assert len(found.masses().to_pylist()) == 6 * LAYERS
    assert found.summary["single"][2]["attention_mass"] == found.summary["attention_mass"]["memory"][1]


def test_a_sweep_is_extended_by_items_and_repeats_nothing(model, evaluation, found, tmp_path, monkeypatch):
    options = {"out": tmp_path, "layers": "0,2;1", "own_row": True, "verbose": False}
    part = api.knockout(model, evaluation.path, samples=[1, 4], **options)
    assert part.summary["items"] == 2
    measured = []

    def some(decoder, choices, *rest, **options):
        measured.extend(item.id for item in choices)
        return effects(decoder, choices, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(knockout, "effects", some)
        whole = api.knockout(model, evaluation, **options)
    assert sorted(measured) == [0, 0, 2, 2, 3, 3, 5, 5]  # with own_row and without
    assert [len(list((tmp_path / table).iterdir())) for table in ("sweep", "masses")] == [1, 1]
    assert whole.summary["items"] == 6
    for ours, theirs in zip(whole.sweep().to_pylist(), found.sweep().to_pylist(), strict=True):
        np.testing.assert_allclose(ours.pop("log_probs"), theirs.pop("log_probs"), atol=1e-5)
        assert ours == theirs
    with pytest.raises(UserError, match=r'layers: was "0,2;1", is null'):
        api.knockout(model, evaluation.path, **options | {"layers": None})


def test_a_task_is_crammed_first_as_an_evaluation_would(model, data, evaluation, found, tmp_path):
    own = api.knockout(model, task="cloze", data=data, out=tmp_path, verbose=False, **OPTIONS)
    theirs = evaluation.crams.rows(["embedding"]).to_pylist()
    assert api.load_run(tmp_path / "crams").rows(["embedding"]).to_pylist() == theirs
    assert own.summary["forward"] == found.summary["forward"]
    again = api.knockout(model, task="cloze", data=data, out=tmp_path, verbose=False, **OPTIONS)
    assert again.summary == own.summary


def test_of_texts_only_the_reconstruction_is_measured(model, tmp_path):
    run = api.cram(
        model,
        ["abc", "de"],
        out=tmp_path / "crams",
        learning_rates=0.1,
        max_steps=50,
        mode="full",
        verbose=False,
    )
    found = api.knockout(model, run.path, out=tmp_path / "run", verbose=False)
    summary = found.summary
    assert (summary["task"], summary["items"], summary["base_accuracy"]) == (None, 2, None)
    expected = np.mean([lane["tf_accuracy"] for lane in run.summary["lanes"]])
    assert summary["crammed_tf_accuracy"] == pytest.approx(expected)
    assert {row["right_token"] for row in found.sweep().to_pylist()} == {None}
    assert found.table().startswith("2 texts, ")


def test_texts_without_an_embedding_are_left_out_and_named(model, tmp_path):
    options = {"learning_rates": 0.1, "warmup_steps": 1, "max_steps_per_token": 5, "verbose": False}
    run = api.cram(model, ["abc", "de"], out=tmp_path / "crams", **options)
    assert {lane["sample_id"]: lane["horizon"] for lane in run.summary["lanes"]} == {0: 1, 1: 0}
    found = api.knockout(model, run, out=tmp_path / "run", verbose=False)
    assert (found.summary["items"], found.summary["left_out"]) == (1, [1])
    assert found.table().splitlines()[1] == "left out, without an embedding: samples 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "3"}, "there is no layer 3; the model has layers 0 to 2"),
        ({"layers": ""}, "no layer is named"),
        ({"protocols": ["single", "sideways"]}, "protocol 'sideways' must be one of"),
        ({"scored": "base"}, "scored=base must be one of"),
        ({"samples": [9]}, "has no sample 9; it has 0 to 5"),
        ({"samples": []}, "samples: no id; give at least one"),
        ({"limit": 7}, "limit=7: .* has 6 samples"),
        ({"max_steps": 3}, "max_steps: .* was crammed already"),
        ({"task": "cloze"}, "a run or a task; give one of them"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(model, evaluation, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        api.knockout(model, evaluation.path, out=tmp_path / "run", verbose=False, **options)
    assert not (tmp_path / "run").exists()


def test_changed_items_are_refused(model, tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in ITEMS[:2]))
    options = {"max_steps": 5, "learning_rates": 0.1, "verbose": False}
    found = api.evaluate(model, "cloze", data=str(file), out=tmp_path / "run", **options)
    file.write_text("".join(json.dumps(item | {"label": 1}) + "\n" for item in ITEMS[:2]))
    with pytest.raises(UserError, match="item 0, 'one day', is not what it was"):
        api.knockout(model, found.path, out=tmp_path / "knockout")
