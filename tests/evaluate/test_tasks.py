"""Items from files of every format, from the Hub and from the package; bad ones named by file and row."""

import csv
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxcram.errors import UserError
from jaxcram.evaluate.tasks.registry import TASKS, find_task, load_items
from jaxcram.evaluate.tasks.task import Item

ROWS = {
    "hellaswag": {"ctx": "A man sits. he", "endings": ["runs.", "sings.", "eats.", "sits."], "label": "3"},
    "arc_easy": {
        "question": "What is hot?",
        "choices": {"text": ["ice", "fire", "snow"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
    "arc_challenge": {
        "question": "What is hot?",
        "choices": {"text": ["ice", "fire", "snow", "rain"], "label": ["1", "2", "3", "4"]},
        "answerKey": "2",
    },
    "mmlu": {"subject": "high_school_art", "question": " Red? ", "choices": list("abcd"), "answer": 2},
    "cloze": {"context": "It rained.", "endings": ["They got wet.", "Ann ran."], "label": 0, "kind": "prose"},
}
QUESTION = "Red?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
ITEMS = {
    "hellaswag": Item(0, "A man sits. he", ("runs.", "sings.", "eats.", "sits."), 3),
    "arc_easy": Item(0, "What is hot?", ("ice", "fire", "snow"), 1),
    "arc_challenge": Item(0, "What is hot?", ("ice", "fire", "snow", "rain"), 1),
    "mmlu": Item(0, QUESTION, ("A", "B", "C", "D"), 2, "high_school_art"),
    "cloze": Item(0, "It rained.", ("They got wet.", "Ann ran."), 0, "prose"),
}


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            for row in rows:
                texts = {name: x if isinstance(x, str) else json.dumps(x) for name, x in row.items()}
                writer.writerow(texts)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("[" + ",".join(lines) + "]" if path.suffix == ".json" else "\n".join(lines))
    return path


def refusal(task, **arguments):
    with pytest.raises(UserError) as error:
        load_items(find_task(task), **arguments)
    return str(error.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("task", TASKS)
def test_an_item_from_a_file_of_every_format(tmp_path, task, suffix):
    path = write(tmp_path / f"a{suffix}", [ROWS[task]])
    assert load_items(find_task(task), data=path) == [ITEMS[task]]


def test_a_task_that_is_not_there():
    with pytest.raises(UserError) as error:
        find_task("piqa")
    assert str(error.value) == (
        "task=piqa: no such task; there are hellaswag, arc_easy, arc_challenge, mmlu, cloze"
    )


BAD = [
    ("hellaswag", {"label": ""}, "column 'label' is empty, not a number from 0 to 3; correct it, or remove"),
    ("hellaswag", {"label": None}, "column 'label' is empty, not a number from 0 to 3"),
    ("hellaswag", {"label": "4"}, "column 'label' is '4', not a number from 0 to 3"),
    ("hellaswag", {"label": "9" * 5_000}, f"column 'label' is '{'9' * 59}, not a number from 0 to 3"),
    ("hellaswag", {"label": -1}, "column 'label' is -1, not a number from 0 to 3"),
    ("hellaswag", {"label": True}, "column 'label' is True, not a number from 0 to 3"),
    ("hellaswag", {"ctx": " "}, "column 'ctx' is empty; correct it, or remove the row"),
    ("hellaswag", {"ctx": 7}, "column 'ctx' holds int, not text"),
    ("hellaswag", {"endings": ["a"]}, "column 'endings' is not a list of at least two texts"),
    ("hellaswag", {"endings": ["a", ""]}, "column 'endings[1]' is empty"),
    ("hellaswag", {"endings": ["a", 1]}, "column 'endings[1]' holds int, not text"),
    ("hellaswag", {"endings": "a, b"}, "column 'endings' is text that is not JSON (Expecting value"),
    ("arc_easy", {"answerKey": "D"}, "column 'answerKey' is 'D', not one of A, B, C"),
    ("arc_easy", {"answerKey": ""}, "column 'answerKey' is empty, not one of A, B, C"),
    ("arc_easy", {"choices": ["a", "b"]}, "column 'choices' is not an object with 'label'"),
    (
        "arc_easy",
        {"choices": {"text": ["a", "b", "c"], "label": ["A", "B"]}},
        "column 'choices' has 3 texts, but 2 labels",
    ),
    ("mmlu", {"choices": ["a", "b"]}, "column 'choices' has 2 texts, not 4"),
    ("mmlu", {"answer": "A"}, "column 'answer' is 'A', not a number from 0 to 3"),
]


@pytest.mark.parametrize(("task", "change", "message"), BAD)
def test_a_bad_item_is_named_by_file_and_row(tmp_path, task, change, message):
    path = write(tmp_path / "a.jsonl", [ROWS[task], ROWS[task] | change])
    assert refusal(task, data=path).startswith(f"{path}: line 2: {message}")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("task", TASKS)
def test_a_missing_column_is_named(tmp_path, task, suffix):
    column = TASKS[task].columns[-1]
    path = write(tmp_path / f"a{suffix}", [{k: v for k, v in ROWS[task].items() if k != column}])
    where = {".jsonl": f"{path}: line 1", ".json": f"{path}: row 0"}.get(suffix, f"{path}")
    assert refusal(task, data=path).startswith(f"{where}: no column '{column}'; it has ")


def test_sources_that_are_no_tables(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.json").write_text('["text"]')
    (tmp_path / "empty.jsonl").write_text("")
    assert refusal("cloze", data=tmp_path / "a.txt").startswith(
        f"{tmp_path / 'a.txt'}: not a table (.jsonl, "
    )
    assert refusal("cloze", data=tmp_path / "a.json").startswith(f"{tmp_path / 'a.json'}: row 0 is a string")
    assert refusal("cloze", data=tmp_path) == f"data={tmp_path}: a directory; give one of its files"
    none = tmp_path / "none.jsonl"
    assert refusal("cloze", data=none) == f"data={none}: no such file; check the path"
    empty = tmp_path / "empty.jsonl"
    assert refusal("cloze", data=empty) == f"data={empty} has no item; give another source"


# Which items


def test_items_are_taken_in_the_order_of_the_source_and_keep_their_ids(tmp_path):
    rows = [ROWS["cloze"] | {"context": f"{i} men."} for i in range(6)]
    path, task = write(tmp_path / "a.jsonl", rows), find_task("cloze")
    taken = load_items(task, data=path, samples=[4, 1])
    assert [(item.id, item.context) for item in taken] == [(1, "1 men."), (4, "4 men.")]
    assert [item.id for item in load_items(task, data=path, limit=2)] == [0, 1]
    with path.open("a") as file:
        file.write("\n{broken")
    assert len(load_items(task, data=path, limit=6)) == 6, "no more is read than needed"
    for arguments, message in [
        ({"limit": 0}, "limit=0 must be at least 1"),
        ({"samples": []}, "samples: no id; give at least one"),
        ({"samples": [1, 1]}, "samples: 1 is given twice; give it once"),
        ({"samples": [-1]}, "samples: -1 is negative; ids start at 0"),
        ({"samples": [1], "limit": 1}, "limit and samples: both say which items to take; give one of them"),
    ]:
        assert refusal("cloze", data=path, **arguments) == message
    write(path, rows)
    assert refusal("cloze", data=path, limit=7) == f"limit=7: data={path} has only 6 items; lower it"
    assert refusal("cloze", data=path, samples=[2, 6, 9]) == (
        f"samples: 6 is not an id of data={path}; ids are row numbers from 0"
    )


# Shots


def test_shots_are_the_first_of_the_subject(tmp_path):
    def rows(subject, *questions):
        return [ROWS["mmlu"] | {"subject": subject, "question": question} for question in questions]

    data = write(tmp_path / "test.jsonl", rows("high_school_art", "X?") + rows("law", "Y?"))
    shots = write(
        tmp_path / "dev.jsonl",
        rows("law", "1?") + rows("high_school_art", "2?", "3?") + rows("law", "4?", "5?"),
    )
    task = find_task("mmlu")
    art, law = load_items(task, data=data, shots_data=shots, num_shots=2)
    choices = "A. a\nB. b\nC. c\nD. d\nAnswer:"
    assert art.prompt == (
        "The following are multiple choice questions (with answers) about high school art.\n\n"
        f"2?\n{choices} C\n\n3?\n{choices} C\n\nX?\n{choices}"
    )
    assert law.shots == (
        "The following are multiple choice questions (with answers) about law.\n\n"
        f"1?\n{choices} C\n\n4?\n{choices} C\n\n"
    )
    assert law.context == f"Y?\n{choices}"
    assert {item.shots for item in load_items(task, data=data)} == {""}
    assert {item.shots for item in load_items(task, data=data, shots_data=shots, num_shots=0)} == {""}
    assert refusal("mmlu", data=data, shots_data=shots, num_shots=3) == (
        f"num_shots=3: shots_data={shots} has only 2 of subject 'high_school_art'; lower it, or give more"
    )
    assert refusal("mmlu", data=data, num_shots=-1) == "num_shots=-1 must be 0 or greater"


# The Hub


@pytest.mark.parametrize(
    ("task", "asked"),
    [
        ("hellaswag", [("Rowan/hellaswag", None, "validation")]),
        ("arc_easy", [("allenai/ai2_arc", "ARC-Easy", "validation")]),
        ("arc_challenge", [("allenai/ai2_arc", "ARC-Challenge", "validation")]),
        ("mmlu", [("cais/mmlu", "all", "test"), ("cais/mmlu", "all", "dev")]),
    ],
)
def test_tasks_come_from_the_hub(monkeypatch, task, asked):
    seen = []

    def load_dataset(name, config, *, split, streaming):
        assert streaming
        seen.append((name, config, split))
        return iter([ROWS[task]])

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    (item,) = load_items(find_task(task), num_shots=1)
    assert seen == asked
    assert (item.context, item.endings, item.label) == (
        (ITEMS[task].context, ITEMS[task].endings, ITEMS[task].label)
    )
    assert bool(item.shots) == (task == "mmlu")
    assert refusal(task, limit=2).endswith("has only 1 items; lower it")


def test_a_data_set_without_a_column_of_the_task(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    served = SimpleNamespace(load_dataset=lambda *_, **__: iter([{"text": "a"}]))
    monkeypatch.setitem(sys.modules, "datasets", served)
    assert (
        refusal("hellaswag", data="owner/name:x") == "data=owner/name:x: row 0: no column 'ctx'; it has text"
    )


# Real items


@pytest.mark.parametrize(
    ("task", "file", "number", "endings"),
    [
        ("hellaswag", "hellaswag_validation_512", 512, {4}),
        ("arc_easy", "arc_easy_validation", 570, {3, 4, 5}),
        ("arc_challenge", "arc_challenge_validation", 299, {3, 4, 5}),
        ("mmlu", "mmlu_test_513", 513, {4}),
    ],
)
def test_real_items(shared, task, file, number, endings):
    folder = shared / "evaldata"
    if not folder.is_dir():
        pytest.skip("the folder of real items is absent")
    items = load_items(
        find_task(task), data=folder / f"{file}.jsonl", shots_data=folder / "mmlu_dev.jsonl", num_shots=5
    )
    assert len(items) == number
    assert {len(item.endings) for item in items} == endings
    assert all(item.prompt.count("Answer:") == 6 for item in items if task == "mmlu")
