"""What scores come to, counted by hand."""

import math

import numpy as np

from jaxcram.evaluate.accuracy import accuracy, difference
from jaxcram.evaluate.multiple_choice import SCORES, Score
from jaxcram.evaluate.summary import rows_of, scores_of, summarise
from jaxcram.results.scores import SCORES as TABLE
from jaxcram.results.table import Job


def one(item, name, log_probs, tokens=(2, 4), characters=(8, 8), label=0):
    return Score(item, name, label, log_probs, tokens, characters)


# By the sum ending 0 is chosen with -3 against -4, per token ending 1 with -1 against -1.5.
FIRST, SECOND = (-3.0, -4.0), (-6.0, -4.0)


def scores(item, base, crammed, label=0):
    return [one(item, name, base if name.startswith("base") else crammed, label=label) for name in SCORES]


FOUND = [
    *scores(0, base=SECOND, crammed=FIRST),  # by sum: base wrong, crammed right; per token both wrong
    *scores(
        1, base=SECOND, crammed=FIRST, label=1
    ),  # by sum: base right, crammed wrong; per token both right
    *scores(2, base=SECOND, crammed=SECOND, label=1),  # right
    *[score for score in scores(5, base=SECOND, crammed=FIRST, label=1) if score.name.startswith("base")],
]
CONVERGED = {0: True, 1: True, 2: False, 5: False}


def test_accuracies_count_all_items_and_the_converged_ones():
    found = summarise(FOUND, CONVERGED)
    assert (found["items"], found["converged"], found["converged_share"]) == (4, 2, 0.5)
    by_sum, by_token = (found["accuracies"]["memory"][by] for by in ("sum", "token"))
    assert [by_sum[name] for name in ("accuracy", "accuracy_converged")] == [0.5, 0.5]
    assert [by_token[name] for name in ("accuracy", "accuracy_converged")] == [0.5, 0.5]
    base = found["accuracies"]["base"]
    assert base["sum"]["accuracy"] == base["token"]["accuracy"] == 0.75
    assert base["character"]["accuracy_converged"] == 0.5
    assert found["scores"] == {name: 0.75 if name.startswith("base") else 0.5 for name in SCORES}
    # Item 5 has no embedding: it is answered wrongly with one.
    assert (found["base_accuracy"], found["crammed_accuracy"]) == (0.75, 0.5)
    assert found["crammed_accuracy_converged"] == 0.5
    assert (found["difference"], found["difference_converged"]) == (-0.25, 0.0)
    assert by_sum["difference_converged"] == 0.0
    assert by_sum["difference"] == -0.25


def test_intervals_are_the_paired_bootstrap_of_the_decisions():
    found = summarise(FOUND, CONVERGED)
    right, base = np.array([False, True, True, False]), np.array([False, True, True, True])
    assert found["base_accuracy_interval"] == list(accuracy(base)[1:])
    assert found["crammed_accuracy_interval"] == list(accuracy(right)[1:])
    assert found["difference_interval"] == list(difference(right, base)[1:])
    whole = np.array([True, True, False, False])
    assert found["crammed_accuracy_converged_interval"] == list(accuracy(right[whole])[1:])
    assert found["difference_converged_interval"] == list(difference(right[whole], base[whole])[1:])


def test_nothing_is_claimed_of_items_that_are_not_there():
    found = summarise(FOUND, dict.fromkeys(CONVERGED, False))
    assert found["converged"] == 0
    assert math.isnan(found["crammed_accuracy_converged"])


def test_scores_come_back_from_the_rows_of_their_table():
    jobs = {item: Job(item, 0.1, 0) for item in CONVERGED}
    subjects = {0: "story", 1: None, 2: None, 5: "prose"}
    rows = rows_of(FOUND, jobs, CONVERGED, subjects)
    assert [len(rows[jobs[item]]) for item in CONVERGED] == [16, 16, 16, 4]
    stored = [TABLE.rows(TABLE.lane_table(job, of_job)) for job, of_job in rows.items()]
    assert scores_of([row for of_job in stored for row in of_job]) == (FOUND, CONVERGED)
    assert [of_job[0]["subject"] for of_job in stored] == list(subjects.values())
    assert rows[jobs[1]][5] == {
        "score_index": 5, "score": "memory", "ending": 1, "label": 1, "log_prob": -4.0, "tokens": 4,
        "characters": 8, "converged": True, "subject": None,
    }  # fmt: skip
