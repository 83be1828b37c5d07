"""Distances and angles of solutions with known answers, and of random ones in another way."""

import itertools

import numpy as np
import pytest

from jaxcram.analysis.lines import lines, segment
from jaxcram.analysis.solutions import Solution, groups, of_lane, summary, wideness
from jaxcram.results.table import Job

START = np.ones((1, 3), np.float32)


def solution(moved, *, rate=0.1, sample=0, seed=0, tokens=4, gain=10.0, start=START) -> Solution:
    point = start + np.array([moved], np.float32)
    return Solution(Job(sample, rate, seed), tokens, gain, point, start, stages=tokens, pca99=2)


CORNER = [
    solution([3, 0, 0], rate=0.1, gain=9.0),
    solution([0, 4, 0], rate=0.5, gain=10.0),
    solution([0, 0, 12], rate=1.0, gain=11.0),
]


def test_a_lane_keeps_its_exact_stages_at_the_lengths_of_the_grid():
    points = np.random.default_rng(0).standard_normal((12, 1, 5)).astype(np.float32)
    points[:5] = points[0] + np.arange(5)[:, None, None]  # a straight line
    tokens, exact = np.arange(1, 13), np.arange(12) < 11
    kept = of_lane(Job(3, 0.1, 0), points, tokens, exact, 2.0 * tokens, points[0])
    assert [(one.tokens, one.stages, one.gain) for one in kept] == [
        (n, n, 2.0 * n) for n in (4, 5, 6, 7, 8, 10)
    ]
    assert [one.pca99 for one in kept[:2]] == [1, 1]
    np.testing.assert_array_equal(kept[5].point_KxD, points[9])
    assert kept[5].point_KxD.base is None  # so that the lane's points can be dropped
    points[7] = np.nan
    assert [one.tokens for one in of_lane(Job(3, 0.1, 0), points, tokens, exact, tokens, points[0])] == [
        *(4, 5, 6, 7)
    ]


def test_distances_and_cosines_of_a_corner():
    (row,) = groups(CORNER)
    assert (row["sample_id"], row["seed"], row["tokens"], row["lanes"]) == (0, 0, 4, 3)
    pairs = 5 + np.sqrt(9 + 144) + np.sqrt(16 + 144)
    assert row["distance"] == pytest.approx((pairs / 3) / (19 / 3))
    assert row["cosine"] == pytest.approx(0, abs=1e-12)
    assert row["gain_cv"] == pytest.approx(np.sqrt(2 / 3) / 10)
    assert row["displacements"] == pytest.approx({0.1: 3, 0.5: 4, 1.0: 12})
    assert row["complete"] is row["shared_start"] is True


def test_random_solutions_against_loops():
    rng = np.random.default_rng(0)
    found = [solution(rng.standard_normal(3), rate=rate) for rate in (0.01, 0.1, 0.5, 1.0)]
    moved = [(one.point_KxD - START).ravel().astype(float) for one in found]
    norms = [np.sqrt(sum(v * v)) for v in moved]
    pairs = list(itertools.combinations(range(4), 2))
    distance = sum(np.sqrt(sum((moved[i] - moved[j]) ** 2)) for i, j in pairs) / 6 / (sum(norms) / 4)
    cosine = sum(moved[i] @ moved[j] / norms[i] / norms[j] for i, j in pairs) / 6
    (row,) = groups(found)
    assert row["distance"] == pytest.approx(distance, rel=1e-5)
    assert row["cosine"] == pytest.approx(cosine, rel=1e-5)
    assert row["gain_cv"] == 0


def test_only_solutions_that_differ_in_one_thing_are_compared():
    other_start = np.zeros((1, 3), np.float32)
    mixed = [
        *CORNER,
        solution([1, 1, 0], rate=0.1, seed=1, start=other_start),
        solution([1, 0, 0], rate=0.5, tokens=5),
        solution([2, 0, 0], rate=0.1, tokens=5),
        solution([2, 0, 0], rate=0.1, sample=2),
    ]
    rates, seeds = groups(mixed), groups(mixed, "seed")
    assert [(row["tokens"], row["lanes"], row["complete"]) for row in rates] == [(4, 3, True), (5, 2, False)]
    assert [(row["learning_rate"], row["lanes"], row["shared_start"]) for row in seeds] == [(0.1, 2, False)]
    # (4, 1, 1) and (1, 1, 0), each with the displacement from its own start
    assert seeds[0]["distance"] == pytest.approx(np.sqrt(10) / ((3 + np.sqrt(2)) / 2))
    assert seeds[0]["cosine"] == pytest.approx(1 / np.sqrt(2))


def test_what_has_no_value_is_none():
    (still,) = groups([solution([0, 0, 0]), solution([0, 0, 0], rate=0.5, gain=np.nan)])
    assert (still["distance"], still["cosine"], still["gain_cv"]) == (None, None, None)
    empty = summary([])
    assert (empty["groups"], empty["distance"]["median"], empty["displacement_ratio"]) == (0, None, None)


def test_the_summary_is_over_groups_its_interval_over_texts():
    rows = groups(
        [
            *CORNER,
            *(solution([3, 0, 0], rate=rate, sample=1, gain=gain) for rate, gain in ((0.1, 8), (1.0, 8))),
            *(solution([6, 0, 0], rate=rate, sample=1, tokens=5) for rate in (0.1, 1.0)),
        ]
    )
    found = summary(rows)
    corner = rows[0]["distance"]
    assert (found["groups"], found["texts"]) == (3, 2)
    assert found["distance"]["mean"] == pytest.approx(corner / 3)
    assert found["distance"]["median"] == 0
    assert found["distance"]["quartiles"] == pytest.approx((0, corner / 2))
    assert found["distance"]["interval"] == pytest.approx((0, corner))  # either text drawn twice
    assert found["displacement_ratio"] == {
        "of": (0.1, 1.0),
        "ratio": pytest.approx((12 + 3 + 6) / (3 + 3 + 6)),
        "groups": 3,
    }
    published = found["as_published"]
    assert (published["groups"], published["distance"]["median"]) == (1, corner)
    assert (published["distance"]["interval"], published["displacement_ratio"]["ratio"]) == (None, 4.0)


def test_the_interval_is_that_of_the_median_over_groups():
    """Of three texts the first has most of the prefixes: drawn once in three it decides the median."""
    values = [(0, 9.0)] * 5 + [(1, 1.0)] + [(2, 2.0)]
    rows = [
        {**groups(CORNER)[0], "sample_id": text, "distance": value, "tokens": place}
        for place, (text, value) in enumerate(values)
    ]
    found = summary(rows)["distance"]
    draws = [
        np.median([value for text in drawn for of, value in values if of == text])
        for drawn in itertools.product(range(3), repeat=3)
    ]  # all 27 are equally likely
    assert found["median"] == 9.0
    assert found["interval"] == pytest.approx(np.percentile(draws, (2.5, 97.5)))
    assert found["interval"][0] == 1.0


def test_groups_are_of_the_texts_that_are_said_whatever_their_numbers():
    (row,) = groups(CORNER)
    first, second = ({**row, "distance": value} for value in (1.0, 3.0))
    two = summary([first, second], ["one", "other"])
    assert (two["texts"], two["distance"]["interval"]) == (2, [1.0, 3.0])
    assert two["as_published"]["texts"] == 2
    one = summary([first, second | {"sample_id": 1}], ["same", "same"])
    assert (one["texts"], one["distance"]["interval"]) == (1, None)


def test_a_set_of_seeds_is_wide_where_its_trajectories_are_thin():
    axes = [solution(5 * np.eye(6)[seed], seed=seed, start=np.zeros((1, 6), np.float32)) for seed in range(6)]
    (row,) = wideness([*axes, solution([0, 1, 0], rate=0.5)])
    assert row == {
        **{"sample_id": 0, "learning_rate": 0.1, "tokens": 4, "seeds": 6},
        **{"set_pca99": 5, "matched_pca99": 3, "trajectory_pca99": 2.0, "stages": 4.0},
    }
    assert wideness(axes[:2]) == []


def test_the_ends_of_a_segment_are_the_embeddings_to_the_bit():
    first, second = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)
    shares, points = segment(first, second, 5)
    assert (shares.tolist(), points.shape, points.dtype) == ([0, 0.25, 0.5, 0.75, 1], (5, 2, 3), np.float32)
    np.testing.assert_array_equal(points[[0, -1]], [first, second])
    np.testing.assert_allclose(points[1], 0.75 * first + 0.25 * second, rtol=1e-6)


def test_lines_join_the_solutions_of_the_longest_shared_prefix():
    later = [solution([6, 0, 0], rate=0.1, tokens=8), solution([0, 8, 0], rate=0.5, tokens=8)]

    def accuracy(solution, points):
        assert solution.tokens == 8
        return 1 - 0.2 * (np.abs(points - solution.point_KxD).sum(axis=(1, 2)) % 14 > 3)

    (row,) = lines([*CORNER, *later], accuracy, count=5)
    assert (row["sample_id"], row["tokens"], row["first"], row["second"]) == (0, 8, 0.1, 0.5)
    assert row["shares"] == [0, 0.25, 0.5, 0.75, 1]
    assert row["accuracies"] == [1, 0.8, 0.8, 0.8, 1]
    assert (row["least"], row["above"]) == (0.8, 0.0)
    every = lines(CORNER, lambda _, points: np.ones(len(points)))
    assert [(one["first"], one["second"]) for one in every] == [(0.1, 0.5), (0.1, 1.0), (0.5, 1.0)]
    some = lines(CORNER, lambda _, points: np.ones(len(points)), most=2)
    assert [(one["first"], one["second"]) for one in some] == [(0.1, 0.5), (0.5, 1.0)]
    assert {one["above"] for one in some} == {1.0}
