"""What counts as text that came back: tokens and texts are the same, and there is a text."""

import numpy as np
import pytest

from jaxcram.cram.rows import Outcome
from jaxcram.cram.summary import bos_tokens, compare, gives_back, of_lanes, so_far
from jaxcram.results.directory import RunDirectory
from jaxcram.results.table import Job
from jaxcram.text.tokens import Sample

WORDS = ["", "Once", " upon", " a", " time", "\N{REPLACEMENT CHARACTER}"]  # 0 is BOS, or unknown


def to_text(ids):
    return "".join(WORDS[token] for token in ids)


def outcome(horizon, target=5, decode=None, sample_id=0):
    decode = horizon if decode is None else decode
    row = {"final_convergence": 1.0, "stage_seq_len": horizon, "information_gain_bits": 2.0}
    job = Job(sample_id, 0.1, 0)
    return Outcome(row if decode else None, row, job, horizon, target, decode, 9, "stage_cap")


@pytest.mark.parametrize(
    ("tokens", "number"), [([0, 1, 2], 1), ([1, 2], 0), ([0, 0, 3], 2), ([0, 0, 0], 3), ([5], 0)]
)
def test_tokens_before_the_first_character_do_not_count_as_text(tokens, number):
    assert bos_tokens(np.array(tokens), to_text) == number


@pytest.mark.parametrize(
    ("text", "decoded", "whole", "same"),
    [
        ("Once upon", "Once upon", True, True),
        (" Once upon", "Once upon ", True, True),
        ("Once upon", "Once", True, False),
        ("Once upon", "Once", False, True),
        ("Once upon", "Twice", False, False),
        ("Once upon", "", False, False),
        ("", "", True, False),
        ("caf\u00e9", "caf\N{REPLACEMENT CHARACTER}", False, True),
        ("\u65e5\u672c", "\N{REPLACEMENT CHARACTER}", False, False),
    ],
)
def test_texts_are_compared_without_special_tokens(text, decoded, whole, same):
    assert gives_back(text, decoded, whole) == same


def test_decoded_lanes_are_compared_as_tokens_and_as_text():
    target = np.array([0, 1, 2, 3])
    one = compare(outcome(4), target, target, "Once upon a time", to_text)
    assert one == {
        "original": "Once upon a",
        "decoded": "Once upon a",
        "first_mismatch": None,
        "agreeing": "",
        "identical": True,
    }
    other = compare(outcome(4), target, np.array([0, 1, 2, 4]), "Once upon a time", to_text)
    assert (other["decoded"], other["first_mismatch"], other["agreeing"], other["identical"]) == (
        *("Once upon time", 3, "Once upon"),
        False,
    )


def test_correct_unknown_tokens_are_not_an_identical_text():
    target = np.array([1, 0])
    one = compare(outcome(2, target=2), target, target, "Once \u03a9", to_text)
    assert (one["original"], one["decoded"], one["first_mismatch"], one["identical"]) == (
        *("Once \u03a9", "Once", None),
        False,
    )
    nothing = np.array([0, 0])
    assert not compare(outcome(2, target=2), nothing, nothing, "\u03a9\u03a9", to_text)["identical"]


def test_the_example_is_the_longest_lane_with_text():
    samples = [Sample(0, "Once upon a time", np.array([0, 1, 2, 3, 4])), Sample(1, "Once", np.array([0, 1]))]
    outcomes = [outcome(1), outcome(2, target=2, sample_id=1)]

    def decoded(*lanes):
        names = ("teacher_forced", "exact", "cached")
        return {i: dict.fromkeys(names, samples[i].tokens[: outcomes[i].horizon]) for i in lanes}

    kinds = {0: "story", 1: "text"}
    both = of_lanes(outcomes, decoded(0, 1), samples, kinds, to_text)
    assert [lane["bos_tokens"] for lane in both["lanes"]] == [1, 1]
    assert both["example"] == {
        "sample_id": 1,
        "learning_rate": 0.1,
        "seed": 0,
        "decode_tokens": 2,
        "target_tokens": 2,
        "original": "Once",
        "decoded": "Once",
        "first_mismatch": None,
        "agreeing": "",
        "identical": True,
    }
    assert of_lanes(outcomes, decoded(0), samples, kinds, to_text)["example"] is None  # BOS alone


@pytest.mark.parametrize(
    ("events", "lanes"),
    [
        ([], None),
        ([{"event": "start", "lanes": 8}, {"event": "start", "lanes": 3}], 8),
        ([{"event": "start", "lanes": 8, "lanes_in_all": 8}, {"event": "start", "lanes_in_all": 12}], 12),
        ([{"event": "start", "lanes": "many"}], None),
    ],
)
def test_the_number_of_lanes_is_that_of_the_last_start(tmp_path, events, lanes):
    with RunDirectory.open(tmp_path, {}) as directory:
        for event in events:
            directory.log(event)
    assert so_far(tmp_path, "progressive", lambda sample_id: "text") == {
        "lanes": [],
        "lanes_in_all": lanes,
        "example": None,
    }
