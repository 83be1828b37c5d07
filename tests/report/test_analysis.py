"""The table of analyses, line by line."""

from jaxcram import report

SPREAD = {"mean": 2.25, "std": 0.5, "count": 4}
NONE = {"mean": None, "std": None, "count": 0}


def test_columns_are_aligned_below_their_header():
    table = report.columns_side_by_side(
        {"model": ["a", "longer-name"]}, {"first": [[("x", "1"), ("of y", "22.5")], []]}
    )
    assert table.splitlines() == [
        "model      a  longer-name",
        "",
        "first",
        "  x        1            -",
        "  of y  22.5            -",
    ]


def test_trajectories_are_ours_and_as_published():
    names = ("horizon", "information_gain_bits", "trajectory_length", "pca99")
    summary = {"lanes": 4, **dict.fromkeys(names, SPREAD), "as_published": dict.fromkeys(names, NONE)}
    summary["horizon"] = {"mean": 3.0, "std": None, "count": 1}
    assert report.trajectory_lines(summary) == [
        ("lanes", "4"),
        ("horizon (tokens)", "3.0"),
        ("horizon (tokens), as published", "-"),
        ("information gain (bits)", "2.2±0.5"),
        ("information gain (bits), as published", "-"),
        ("trajectory length", "2.2±0.5"),
        ("trajectory length, as published", "-"),
        ("PCA 99% (components)", "2.2±0.5"),
        ("PCA 99% (components), as published", "-"),
    ]


def test_correlations_have_their_intervals():
    some = {"stages": 70, "spearman": 0.588, "interval": [0.55, 0.631], "partial": 0.5, "lanes": SPREAD}
    none = {"stages": 0, "spearman": None, "interval": None, "partial": None, "lanes": NONE}
    summary = {
        **some,
        "positive_share": 1.0,
        "without_zero_steps": {**none, "positive_share": None},
    }
    assert report.surprisal_lines(summary) == [
        ("stages", "70"),
        ("Spearman", "0.59 [0.55, 0.63]"),
        ("given the position", "0.50"),
        ("per lane", "2.25±0.50"),
        ("lanes above 0", "100%"),
        ("stages, without zero steps", "0"),
        ("Spearman, without zero steps", "-"),
        ("given the position, without zero steps", "-"),
        ("per lane, without zero steps", "-"),
        ("lanes above 0, without zero steps", "-"),
    ]


def test_capacities_are_bits():
    summary = {"horizon_bits": SPREAD, "bits_per_step": SPREAD, "gain_share": NONE}
    line = {"slope": 3.456, "intercept": 1.0, "r2": 0.0}
    assert report.capacity_lines({**summary, "gain_by_horizon": line}) == [
        ("surprisal of the horizon (bits)", "2.2±0.5"),
        ("bits per step", "2.250±0.500"),
        ("gain over surprisal", "-"),
        ("gain per token of horizon (bits)", "3.46"),
        ("R² of gain against horizon", "0.00"),
    ]
    assert report.capacity_lines({**summary, "gain_by_horizon": None})[3:] == [
        ("gain per token of horizon (bits)", "-"),
        ("R² of gain against horizon", "-"),
    ]
