"""Generative evaluations on disk: what is crammed in each mode, answers, resuming, refusals."""

import json
import shutil

import numpy as np
import pytest

from jaxcram import api
from jaxcram.cli.evaluate import present
from jaxcram.errors import UserError
from jaxcram.evaluate.generative import encode_prompts, generate, random_memory
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.experiments import generation
from tests.cli.conftest import tiny_model  # noqa: F401
from tests.experiments.conftest import lively_model

pytestmark = pytest.mark.slow

OPTIONS = {"num_shots": 1, "max_steps": 4, "learning_rates": 0.1, "warmup_steps": 1, "verbose": False}


def question(number, subject):
    choices = [f"{number}{letter}" for letter in "wxyz"]
    return {"question": f"Which of {number}?", "subject": subject, "choices": choices, "answer": number % 4}


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):  # noqa: F811
    return lively_model(tiny_model, tmp_path_factory.mktemp("models") / "long", max_positions=1024)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mmlu")
    rows = {
        "items": [question(i, "art" if i < 2 else "law") for i in range(3)],
        "shots": [question(7, "art"), question(8, "law")],
    }
    for name, of_file in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_file))
    return {"data": str(folder / "items.jsonl"), "shots_data": str(folder / "shots.jsonl")}


def evaluate(model, files, out, mode, **options):
    return api.evaluate(model, "mmlu", generative=mode, out=out, **files, **OPTIONS | options)


def expected(model, files, mode, memory=None):
    items = load_items(find_task("mmlu"), num_shots=1, **files)
    prompts = encode_prompts(items, mode, model.tokenizer, max_positions=1024).prompts
    if mode == "random":
        memory = random_memory(model.decoder, prompts, 1)
    return {answer.item: answer for answer in generate(model.decoder, model.tokenizer, prompts, memory)}


def check(rows, answers):
    assert {row["sample_id"] for row in rows} == answers.keys()
    for row in rows:
        answer = answers[row["sample_id"]]
        assert (row["text"], row["letter"], row["label"]) == (answer.text, answer.letter, row["sample_id"])
        assert (row["right"], row["valid"], row["subject"]) == (answer.right, answer.valid, answer.subject)


@pytest.mark.parametrize(("mode", "crams"), [("few_shot", [0, 1]), ("full_prefix", [0, 1, 2])])
def test_answers_follow_the_embeddings_of_what_the_mode_crams(model, files, tmp_path, mode, crams):
    found = evaluate(model, files, tmp_path, mode)
    rows = found.answers().to_pylist()
    lanes = {row["sample_id"]: row for row in found.crams.rows().to_pylist()}
    assert sorted(lanes) == crams
    of_item = {0: 0, 1: 0, 2: 1} if mode == "few_shot" else {0: 0, 1: 1, 2: 2}  # by row of the shots
    memory = np.asarray([lanes[of_item[i]]["embedding"] for i in range(3)], np.float32)
    check([row for row in rows if row["mode"] == mode], expected(model, files, mode, memory))
    check([row for row in rows if row["mode"] == "none"], expected(model, files, "none"))
    assert {row["sample_id"]: row["cram_id"] for row in rows if row["mode"] == mode} == of_item
    summary = found.summary
    assert (summary["generative"], summary["items"], summary["task"]) == (mode, 3, "mmlu")
    right = [row["right"] for row in rows if row["mode"] == mode]
    assert summary["crammed_accuracy"] == summary["scores"][mode] == pytest.approx(np.mean(right))
    assert summary["scores"]["none"] == summary["base_accuracy"]
    assert summary["crammed_accuracy_converged"] == summary["accuracy_converged"]
    assert found.table().startswith(f"mmlu, generative, {mode}: 3 items, of which the crammed text converged")


def test_a_random_vector_and_plain_text_need_no_cram(model, files, tmp_path, capsys):
    found = evaluate(model, files, tmp_path / "random", "random")
    rows = found.answers().to_pylist()
    check([row for row in rows if row["mode"] == "random"], expected(model, files, "random"))
    assert not (tmp_path / "random" / "crams").exists()
    present(found)
    assert capsys.readouterr().out == (
        f"{found.table()}\n\n"
        f"figure    {tmp_path / 'random' / 'figure.png'} (and .pdf)\n"
        f"answers   {tmp_path / 'random' / 'answers'} (Parquet, one row per item and mode)\n"
        f"summary   {tmp_path / 'random' / 'summary.json'}\n"
        f"settings  {tmp_path / 'random' / 'settings.json'}\n"
    )
    plain = evaluate(model, files, tmp_path / "none", "none")
    check(plain.answers().to_pylist(), expected(model, files, "none"))
    assert plain.summary["accuracy"] == found.summary["base_accuracy"]
    names = ("converged", "crammed_accuracy", "crammed_accuracy_converged", "scores")
    base = {"none": found.summary["base_accuracy"]}
    assert [plain.summary[name] for name in names] == [None, None, None, base]
    accuracy = found.summary["accuracy"]
    assert [found.summary[name] for name in names] == [None, accuracy, None, base | {"random": accuracy}]
    assert plain.table().startswith("mmlu, generative, none: 3 items\n")
    assert repr(plain) == f"Evaluation('{tmp_path / 'none'}': mmlu, 3 items)"
    with pytest.raises(UserError, match=r"its answers were generated \(random\), no endings scored"):
        api.knockout(model, found.path, out=tmp_path / "knockout")


def test_an_evaluation_is_extended_by_items_and_repeats_nothing(model, files, tmp_path, monkeypatch):
    """Also by items before those that are there, of the same subject; and after the shots have moved."""
    first = evaluate(model, files, tmp_path, "few_shot", samples=[1])
    moved = files["shots_data"].replace("shots.jsonl", "moved.jsonl")
    shutil.copy(files["shots_data"], moved)
    asked = []

    def answers(decoder, tokenizer, prompts, *memory):
        asked.extend((prompt.item.id, prompt.mode) for prompt in prompts)
        return generate(decoder, tokenizer, prompts, *memory)

    monkeypatch.setattr(generation, "generate", answers)
    whole = evaluate(model, files | {"shots_data": moved}, tmp_path, "few_shot")
    assert sorted(asked) == [(0, "few_shot"), (0, "none"), (2, "few_shot"), (2, "none")]
    assert (first.summary["items"], whole.summary["items"]) == (1, 3)
    assert len(list((tmp_path / "answers").iterdir())) == 1
    with pytest.raises(UserError, match='generative: was "few_shot", is "random"'):
        evaluate(model, files, tmp_path, "random")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generative": "some_shots"}, "generative=some_shots: no such mode; choose one of few_shot"),
        ({"num_shots": 2}, "num_shots=2: .* has only 1 of subject"),
        ({"shots_data": None}, "item 0: it has no shots"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(model, files, tmp_path, options, message):
    arguments = {"generative": "few_shot"} | files | OPTIONS | options
    with pytest.raises(UserError, match=message):
        api.evaluate(model, "mmlu", out=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()
