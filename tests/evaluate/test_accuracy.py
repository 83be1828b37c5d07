"""Decisions, accuracies and their intervals, by hand."""

import math

import numpy as np
import pytest

from jaxcram.evaluate.accuracy import accuracy, chosen, difference, right
from jaxcram.evaluate.multiple_choice import Score


def row(log_probs, tokens, characters, label=0):
    return Score(0, "base", label, tuple(log_probs), tuple(tokens), tuple(characters))


# By sum the first is best, by token the second, by character the third.
ROW = row([-4.0, -6.0, -8.0], [2, 4, 5], [4, 5, 16])


def test_each_normalization_has_its_own_winner():
    assert [chosen(ROW, by) for by in ("sum", "token", "character")] == [0, 1, 2]
    with pytest.raises(KeyError):
        chosen(ROW, "word")


def test_the_first_of_equals_is_chosen():
    assert chosen(row([-2.0, -1.0, -1.0], [1, 1, 1], [1, 1, 1]), "sum") == 1


@pytest.mark.parametrize("by", ["sum", "token", "character"])
def test_an_ending_without_a_scored_token_is_never_preferred(by):
    assert chosen(row([0.0, -9.0], [0, 3], [1, 1]), by) == 1
    nothing = row([0.0, 0.0], [0, 0], [1, 1])
    assert chosen(nothing, by) is None
    assert right([nothing, row([-1.0, -9.0], [1, 1], [1, 1])], by).tolist() == [False, True]


def test_the_interval_is_that_of_the_binomial():
    """Resampling n decisions of which a share p is right draws from a binomial distribution."""
    decisions = np.arange(400) % 5 < 3
    mean, low, high = accuracy(decisions)
    error = math.sqrt(0.6 * 0.4 / 400)
    assert mean == 0.6
    np.testing.assert_allclose([low, high], [0.6 - 1.96 * error, 0.6 + 1.96 * error], atol=0.004)
    assert accuracy(decisions[::-1]) == accuracy(np.random.default_rng(0).permutation(decisions))
    assert accuracy(decisions) == accuracy(decisions, seed=0)
    assert accuracy(np.ones(9, bool)) == (1.0, 1.0, 1.0)
    assert all(map(math.isnan, accuracy(np.array([], bool))))


def test_a_paired_difference_is_narrower_than_two_accuracies():
    base = np.arange(400) % 2 < 1
    better = base.copy()
    better[1::20] = True  # 20 of 400 more
    mean, low, high = difference(better, base)
    error = math.sqrt(0.05 * 0.95 / 400)
    assert mean == pytest.approx(0.05)
    np.testing.assert_allclose([low, high], [0.05 - 1.96 * error, 0.05 + 1.96 * error], atol=0.004)
    assert difference(base, base) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="3 decisions cannot be paired with 400"):
        difference(base[:3], base)
