"""Rows of generated answers, and what they come to, counted by hand."""

import numpy as np
import pytest

from jaxcram.evaluate.generative import Answer, Prompt
from jaxcram.evaluate.generative_summary import answers_of, rows_of, summarise
from jaxcram.evaluate.tasks.task import Item
from jaxcram.results.answers import ANSWERS
from jaxcram.results.table import Job


def answer(text, label=1, number=0, mode="few_shot"):
    item = Item(number, "q", tuple("ABCD"), label, subject="law")
    return Answer.read(Prompt(item, mode, None, np.zeros(0, np.int32)), text)


def test_rows_hold_all_of_the_answers():
    found = [answer(" B", 1, 4, "none"), answer(" A", 1, 4), answer("", 2, 9, "none"), answer(" C", 2, 9)]
    jobs = {4: Job(4, 0.1, 0), 9: Job(9, 0.1, 0)}
    rows = rows_of(found, jobs, crams={4: 2, 9: 2}, converged={4: True, 9: False})
    assert list(rows) == list(jobs.values())
    assert rows[jobs[4]][1] == {
        "answer_index": 1,
        "mode": "few_shot",
        "cram_id": 2,
        "text": " A",
        "letter": "A",
        "label": 1,
        "right": False,
        "valid": True,
        "converged": True,
        "subject": "law",
    }
    assert [rows[jobs[9]][0][name] for name in ("mode", "cram_id", "letter", "converged")] == ["none"] + [
        None
    ] * 3
    stored = [row for job, of_one in rows.items() for row in ANSWERS.rows(ANSWERS.lane_table(job, of_one))]
    assert answers_of(stored) == (found, {4: True, 9: False})


def test_what_answers_come_to():
    """Labels are B; by item: right, wrong, not valid, right; and of the base right, right, wrong, right."""
    crammed = [answer(text, 1, i) for i, text in enumerate((" B", " A", "", "B"))]
    base = [answer(text, 1, i, "none") for i, text in enumerate((" B", " B", "C", "B"))]
    found = summarise(crammed, base[::-1], converged={0: True, 1: True, 2: False, 3: False})
    numbers = {name: value for name, value in found.items() if not name.endswith("_interval")}
    assert numbers == {
        "mode": "few_shot",
        "items": 4,
        "accuracy": 0.5,
        "valid_share": 0.75,
        "converged": 2,
        "converged_share": 0.5,
        "accuracy_converged": 0.5,
        "valid_share_converged": 1.0,
        "base_accuracy": 0.75,
        "base_valid_share": 1.0,
        "difference": -0.25,
        "difference_converged": -0.5,
    }
    assert found["accuracy_interval"] == [0.0, 1.0]
    assert found["difference_interval"] == [-0.75, 0.0]
    assert found == summarise(crammed[::-1], base, converged={0: True, 1: True, 2: False, 3: False})
    plain = summarise(base)
    assert set(plain) == {
        *("mode", "items", "accuracy", "accuracy_interval", "valid_share", "valid_share_interval")
    }
    with pytest.raises(ValueError, match="other items"):
        summarise(crammed, base[1:])
    with pytest.raises(ValueError, match=r"\['few_shot', 'none'\]; summarise one"):
        summarise(crammed + base)
