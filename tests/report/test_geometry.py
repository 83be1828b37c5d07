"""The lines of the table about walks, solutions, seeds and the lines between them."""

from jaxcram import report
from jaxcram.analysis import walk

SPREAD = {"mean": 2.25, "std": 0.5, "count": 4}
WITHIN = {**SPREAD, "interval": [1.75, 2.5]}
NONE = {"mean": None, "std": None, "count": 0, "interval": None}


def test_walks_have_intervals_and_gap_ratios_the_number_of_their_lanes():
    empty = walk.summary([])
    lines = dict(
        report.walk_lines(
            {
                **empty,
                **{"lanes": 9, "pca99_minus_random_walk": WITHIN, "step_gap_ratio": SPREAD},
                **{"below_random_walk": 0.25, "below_random_walk_interval": [0.0, 0.5]},
            }
        )
    )
    assert lines["PCA 99% minus that of random walks"] == "2.25±0.50 [1.75, 2.50]"
    assert lines["lanes below 95% of their random walks"] == "25% [0%, 50%]"
    assert lines["jumps in steps: max over median"] == "2.2±0.5 (4 of 9 lanes)"
    assert lines["jumps in distance: max over median"] == "- (0 of 9 lanes)"
    assert lines["jumps in steps: max over median, as published"] == "- (0 of 9 lanes)"
    assert dict(report.walk_lines(empty))["PCA 99% minus that of random walks"] == "-"


def test_sets_of_seeds_and_lines_have_intervals():
    names = ("seeds", "set_pca99", "matched_pca99", "trajectory_pca99")
    minus = {"set_minus_trajectory": WITHIN, "matched_minus_trajectory": NONE}
    summary = {"prefixes": 3, **dict.fromkeys(names, SPREAD), **minus}
    assert report.seeds_lines(summary)[-2:] == [
        ("PCA 99% of their solutions minus that of one trajectory", "2.2±0.5 [1.8, 2.5]"),
        ("of as many minus that of one trajectory", "-"),
    ]
    rates = {"lines": 4, "texts": 2, "least": WITHIN, "above": NONE}
    across_rates = [
        ("lines between solutions", "4 of 2 texts"),
        ("lowest accuracy on the way", "2.25±0.50 [1.75, 2.50]"),
        ("share of the way above 0.9", "-"),
    ]
    assert report.lines_lines({**rates, "across_seeds": {**rates, "lines": 0}}) == across_rates
    assert report.lines_lines({**rates, "across_seeds": rates}) == across_rates + [
        (f"{label}, across seeds", cell) for label, cell in across_rates
    ]
