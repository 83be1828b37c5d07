"""Base accuracy against lm-evaluation-harness with its own model, on the bundled one."""

import json

import pytest

import against_harness

ROWS = {
    "hellaswag": [
        {
            "ctx": "The dog ran to the park. he",
            "endings": ["saw a ball.", "is a very big tree.", "ate the sun!", "the."],
            "label": "0",
        },
        {"ctx": "Tom was sad.", "endings": ["He cried.", "Blue.", "No", "A cat sat in it."], "label": "3"},
    ],
    "arc_easy": [
        {
            "question": "What is hot?",
            "choices": {"text": ["the sun", "ice", "snow"], "label": ["A", "B", "C"]},
            "answerKey": "A",
        },
        {
            "question": "What can fly?",
            "choices": {"text": ['a "stone"', "a bird", "Tim's car", "mud"], "label": ["1", "2", "3", "4"]},
            "answerKey": "2",
        },
    ],
    "mmlu": [
        {
            "subject": "s",
            "question": " How many are\n2 and 2? ",
            "choices": ["1", "2", "3", "4"],
            "answer": 3,
        },
        {"subject": "s", "question": "Who?", "choices": ["I", "you", "he", "{{she}}"], "answer": 1},
    ],
}


@pytest.mark.slow
def test_all_sides_agree_on_every_choice(tmp_path):
    for package in ("lm_eval", "torch", "accelerate"):
        pytest.importorskip(package)
    paths = {name: tmp_path / f"{name}.jsonl" for name in ROWS}
    for name, rows in ROWS.items():
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {name: str(path) for name, path in paths.items()}
    records = against_harness.measured(against_harness.Command(limit=2, **files))
    assert [(one["task"], one["items"], one["choices"]) for one in records] == [
        ("hellaswag", 2, 8),
        ("arc_easy", 2, 7),
        ("mmlu", 2, 8),
    ]
    assert set(against_harness.COLUMNS) <= set(records[0])
    for one in records:
        for side in ("jaxcram", "wrapped"):
            assert one[f"{side}_difference"] < 1e-3
            assert (one[f"{side}_acc_differs"], one[f"{side}_acc_norm_differs"]) == (0, 0)
            assert all(one[f"{side}_{rule}"] == one[f"harness_{rule}"] for rule in ("acc", "acc_norm"))
