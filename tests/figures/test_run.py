"""The figure of a run draws every lane and every stage of known cost, where the rows say they are."""

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from jaxcram.figures.run import run_figure
from tests.analysis.test_surprisal import ROWS

NAMES = ("sample_id", "learning_rate", "seed", "stage_seq_len", "steps", "exact", "surprisal_bits")
HORIZONS = {(0, 0.1): 4, (0, 1.0): 5, (7, 0.1): 1, (7, 1.0): 0}
SUMMARY = {
    "lanes": [
        {"sample_id": sample, "kind": kind, "learning_rate": rate, "seed": 0, "horizon": horizon}
        for (sample, rate), horizon in HORIZONS.items()
        for kind in ["prose" if sample else "story"]
    ]
}


@pytest.fixture
def rows() -> pa.Table:
    return pa.Table.from_pylist([dict(zip(NAMES, row, strict=True)) for row in ROWS])


def drawn(axes, color: str | None = None) -> list[tuple[float, float]]:
    """Points of the lines that have no line between them."""
    return [
        (float(x), float(y))
        for line in axes.lines
        if line.get_linestyle() == "None" and color in (None, line.get_color())
        for x, y in line.get_xydata()
    ]


def test_every_lane_is_a_point_at_its_learning_rate_and_every_kind_has_its_mean(rows):
    left, _ = run_figure(rows, SUMMARY).axes
    assert sorted((round(np.log10(x)), y) for x, y in drawn(left)) == [(-1, 1), (-1, 4), (0, 0), (0, 5)]
    means = {
        line.get_marker(): line.get_xydata().tolist() for line in left.lines if line.get_linestyle() == "-"
    }
    assert means == {"o": [[0.1, 4], [1, 5]], "^": [[0.1, 1], [1, 0]]}


def test_every_stage_of_known_cost_is_a_point_in_its_learning_rate_s_colour(rows):
    figure = run_figure(rows, SUMMARY)
    _, right = figure.axes
    colors = {text.get_text(): handle.get_color() for text, handle in legend(figure)}
    assert drawn(right, colors["0.1"]) == [(1.5, 4.0), (0.5, 0.0), (6.0, 10.0)]
    assert drawn(right, colors["1"]) == [(1.0, 2.0), (3.5, 4.0)]


def legend(figure):
    (box,) = figure.legends
    return list(zip(box.get_texts(), box.legend_handles, strict=True))


def test_the_title_has_the_given_text_and_the_correlation(rows):
    # Lane 1 has ranks 2, 1, 3 and 2, 1, 3; lane 2 has 1, 2 and 1, 2.
    figure = run_figure(rows, SUMMARY, title="Two texts")
    assert figure.get_suptitle().splitlines() == [
        "Two texts",
        "surprisal against steps per token: Spearman ρ 1.00, mean of 2 lanes",
    ]


def test_a_run_in_which_nothing_became_exact_still_has_a_figure(rows, tmp_path):
    nothing = rows.filter(pa.compute.invert(rows["exact"]))
    summary = {"lanes": [lane for lane in SUMMARY["lanes"] if lane["learning_rate"] == 1.0]}
    figure = run_figure(nothing, summary, title="Nothing")
    assert figure.get_suptitle() == "Nothing"
    figure.savefig(tmp_path / "figure.png", dpi=50)
    height, width, _ = matplotlib.image.imread(tmp_path / "figure.png").shape
    assert (height, width) == (220, 550)


def test_full_mode_draws_both_accuracies_and_the_horizon_of_every_lane(rows):
    accuracies = {(0, 0.1): (0.9, 0.5), (0, 1.0): (1.0, 1.0), (7, 0.1): (0.8, 0.0), (7, 1.0): (0.7, 0.3)}
    lanes = [
        {**lane, "tf_accuracy": forced, "exact_accuracy": exact}
        for lane in SUMMARY["lanes"]
        for forced, exact in [accuracies[lane["sample_id"], lane["learning_rate"]]]
    ]
    figure = run_figure(rows, {"lanes": lanes, "mode": "full"}, title="Two texts")
    left, right = figure.axes
    assert sorted(y for _, y in drawn(left)) == [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.0]
    assert sorted(y for _, y in drawn(right)) == [0, 1, 4, 5]
    means = {
        (line.get_linestyle(), line.get_marker()): line.get_ydata().tolist()
        for line in left.lines
        if line.get_linestyle() != "None"
    }
    assert means == {
        ("-", "o"): [0.5, 1.0],
        ("-", "^"): [0.0, 0.3],
        ("--", "o"): [0.9, 1.0],
        ("--", "^"): [0.8, 0.7],
    }
    assert figure.get_suptitle() == "Two texts"
    assert [text.get_text() for text, _ in legend(figure)][-2:] == ["exact decoding", "teacher forcing"]


def test_one_lane_is_a_point_without_a_mean(rows):
    summary = {"lanes": SUMMARY["lanes"][:1]}
    left, _ = run_figure(rows.filter(pa.compute.field("learning_rate") == 0.1), summary).axes
    assert [line.get_xydata().tolist() for line in left.lines] == [[[0.1, 4]]]


def test_with_many_learning_rates_labels_are_rotated_and_ten_are_in_the_legend(rows):
    rates = [0.001 * 2**i for i in range(13)]
    lanes = [{**SUMMARY["lanes"][0], "learning_rate": rate} for rate in rates]
    figure = run_figure(rows.slice(0, 0), {"lanes": lanes})
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {90.0}
    named = [text.get_text() for text, _ in legend(figure)][1:11]
    assert (named[0], named[-1], len(set(named))) == ("0.001", "4.096", 10)
