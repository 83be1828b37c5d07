"""Bootstrap intervals against all the resamples that there are."""

import itertools

import numpy as np
import pytest

from jaxcram.analysis import interval

VALUES = [0.1, 0.9, 0.4, 0.7, 0.2, 1.0, 0.3, 0.55]


@pytest.mark.parametrize("texts", [None, ["a", "b", "c", "a", "d", "b", "e", "a"]])
def test_texts_are_resampled_with_all_their_lanes(texts):
    lanes = {}
    for text, value in zip(texts or range(5), VALUES, strict=False):
        lanes.setdefault(text, []).append(value)
    draws = [
        np.mean([value for text in drawn for value in lanes[text]])
        for drawn in itertools.product(lanes, repeat=len(lanes))
    ]
    found = interval.of_mean(VALUES[:5] if texts is None else VALUES, texts)
    assert found == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)


def test_values_that_are_all_the_same_have_an_interval_of_no_width():
    assert interval.of_mean([0.5, 0.5, 0.5]) == [0.5, 0.5]


def test_a_spread_has_the_interval_of_its_mean_over_the_values_that_are_known():
    found = interval.spread([1.0, None, 2.0, float("nan"), 6.0], ["a", "a", "b", "c", "b"])
    assert found == {
        **{"mean": 3.0, "std": pytest.approx(np.sqrt(7)), "count": 3},
        "interval": interval.of_mean([1.0, 2.0, 6.0], ["a", "b", "b"]),
    }
    assert found["interval"] == [1.0, 4.0]  # the two texts drawn twice
    assert interval.spread([]) == {"mean": None, "std": None, "count": 0, "interval": None}


def test_one_text_has_no_interval():
    assert interval.of_mean([0.5]) is None
    assert interval.of_mean([0.5, 0.7], ["a", "a"]) is None
    assert interval.of_mean([]) is None
