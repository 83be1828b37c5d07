import pytest

from jaxcram.analysis import interval


def test_the_interval_of_a_mean_is_students():
    # Mean 3, standard error sqrt(2.5 / 5); 2.776445 is t of 97.5% with 4 degrees of freedom.
    half = 2.776445 * 0.5**0.5
    assert interval.of_mean([1, 2, 3, 4, 5]) == pytest.approx([3 - half, 3 + half], rel=1e-6)


def test_values_that_are_all_the_same_have_an_interval_of_no_width_and_one_value_has_none():
    assert interval.of_mean([0.5, 0.5, 0.5]) == [0.5, 0.5]
    assert interval.of_mean([0.5]) is None
    assert interval.of_mean([]) is None
