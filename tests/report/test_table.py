"""The table, its notes and the sample, to the letter, of lanes that gave much, little or nothing."""

import pytest

from jaxcram import report

LANE = {
    "sample_id": 0,
    "kind": "story",
    "learning_rate": 0.1,
    "seed": 0,
    "horizon": 10,
    "target_tokens": 30,
    "decode_tokens": 10,
    "tf_tokens": 10,
    "bos_tokens": 1,
    "steps": 1000,
    "stop_reason": "stage_cap",
    "information_gain_bits": 8.0,
    "tf_accuracy": 1.0,
    "exact_accuracy": 1.0,
    "cached_accuracy": 1.0,
    "tf_first_mismatch": None,
    "exact_first_mismatch": None,
    "cached_first_mismatch": None,
}
UNKNOWN = {f"{name}_accuracy": None for name in ("tf", "exact", "cached")}
NOTHING = {"horizon": 0, "decode_tokens": 0, "tf_tokens": 0, "information_gain_bits": 0.0, **UNKNOWN}
BOS_ALONE = {"horizon": 1, "decode_tokens": 1, "tf_tokens": 1, "information_gain_bits": 0.0}
FULL = {"decode_tokens": 30, "horizon": 5, "tf_tokens": 27, "tf_accuracy": 0.9, "stop_reason": "sample_cap"}


def summary(*lanes, mode="progressive", **more):
    return {"lanes": [{**LANE, **lane} for lane in lanes], "mode": mode, "example": None, **more}


def test_lanes_without_text_count_as_zero_and_are_named():
    values = summary({}, {"sample_id": 1, **NOTHING}, {"sample_id": 2, **BOS_ALONE}, {"sample_id": 3})
    assert report.table(values).splitlines() == [
        "texts   lr  lanes  empty  target  horizon     gain   steps     TF  exact  cached  mismatch",
        "story  0.1      4      2      30  5.2±5.5  4.0±4.6  1000±0  0.500  0.500   0.500      none",
    ]
    assert report.notes(values) == [
        "horizon: tokens of the longest exact prefix; gain: bits, without token 0; mean±std over lanes",
        "TF, exact, cached: share of that prefix that is recovered, 0 for lanes without any text (empty)",
        "ended by: stage_cap 4",
        "no text was recovered from 2 of 4 lanes: sample 1, learning rate 0.1; sample 2, learning rate 0.1",
    ]
    assert report.sample(summary(NOTHING, BOS_ALONE)) == ["no example: no text was recovered from any lane"]


def test_a_share_is_1_only_if_everything_was_recovered():
    values = summary({"exact_accuracy": 0.9999, "cached_accuracy": 0.99996})
    assert report.table(values).splitlines()[1].split()[-4:] == ["1.000", "0.999", "0.999", "none"]


def test_each_decoder_that_differs_is_named_with_its_first_mismatch():
    values = summary(
        {"exact_first_mismatch": 3, "exact_accuracy": 0.5, "cached_first_mismatch": 7},
        {"cached_first_mismatch": 1, "cached_accuracy": 0.5, "seed": 2},
    )
    assert report.table(values).splitlines()[1].endswith("  0.750   0.750  exact:3 cached:1")
    assert report.notes(values)[-2:] == [
        "decoders differ from the exact prefix in 2 of 2 lanes: sample 0, learning rate 0.1 (exact:3",
        "    cached:7); sample 0, learning rate 0.1, seed 2 (cached:1)",
    ]


def test_an_unknown_accuracy_leaves_the_share_unknown():
    values = summary({}, {"sample_id": 1, **UNKNOWN})
    assert report.table(values).splitlines()[1].split()[-4:] == ["-", "-", "-", "none"]
    values = summary(UNKNOWN)
    assert report.table(values).splitlines()[1].split()[-4:] == ["-", "-", "-", "-"]
    assert report.sample(values) == [
        "no example: the run stored no embeddings (trajectory = none), so nothing was decoded"
    ]


def test_groups_stories_first_then_rates_or_one_line_a_text():
    values = summary(
        {"kind": "prose", "sample_id": 7},
        {"learning_rate": 0.5, "horizon": 12, "stop_reason": "complete"},
        {"learning_rate": 0.01, "horizon": 12, "information_gain_bits": None},
        {"sample_id": 2, **NOTHING, "stop_reason": "not_finite"},
    )
    lines = [line.split() for line in report.table(values).splitlines()]
    assert [line[:3] for line in lines[1:]] == [
        ["story", "0.01", "1"],
        ["story", "0.1", "1"],
        ["story", "0.5", "1"],
        ["prose", "0.1", "1"],
    ]
    assert report.table(values, per_text=True).splitlines() == [
        "text   kind  lanes  best lr  empty  target   horizon  gain   steps     TF  exact  cached  mismatch",
        "   0  story      2     0.01      0      30  12.0±0.0   8.0  1000±0  1.000  1.000   1.000      none",
        "   2  story      1        -      1      30       0.0   0.0    1000  0.000  0.000   0.000         -",
        "   7  prose      1      0.1      0      30      10.0   8.0    1000  1.000  1.000   1.000      none",
    ]
    assert report.notes(values)[2:] == [
        "ended by: stage_cap 2, complete 1, not_finite 1",
        "no text was recovered from 1 of 4 lanes: sample 2, learning rate 0.1",
        "gain is not finite, so left out of the mean: 1 of 4 lanes: sample 0, learning rate 0.01",
    ]


def test_full_mode_has_a_table_of_its_own():
    exact = {"exact_accuracy": 0.3, "cached_accuracy": 0.2, "exact_first_mismatch": 5}
    whole = {"sample_id": 1, "horizon": 30, "decode_tokens": 30, "tf_tokens": 30, "stop_reason": "complete"}
    bos = {"exact_accuracy": 1 / 30, "cached_accuracy": 1 / 30, "horizon": 1}
    values = summary({**FULL, **exact}, whole, {**FULL, **bos, "sample_id": 2}, mode="full")
    assert report.table(values).splitlines() == [
        "texts   lr  lanes  target  right (TF)     TF  exact  cached  whole    horizon     gain   steps",
        "story  0.1      3      30    28.0±1.7  0.933  0.444   0.411    1/3  12.0±15.7  8.0±0.0  1000±0",
    ]
    assert report.notes(values) == [
        "TF, exact, cached: share of the whole target that is recovered; whole: lanes with an exact target",
        "horizon: tokens exact from the start; gain: bits, without token 0; mean±std over lanes",
        "ended by: sample_cap 2, complete 1",
        "no text was recovered from 1 of 3 lanes: sample 2, learning rate 0.1",
    ]


def test_a_run_of_an_earlier_version_has_a_table_too():
    later = ("bos_tokens", "tf_tokens")
    values = summary({}, {"horizon": 30, "decode_tokens": 30}, mode="full")
    values["lanes"] = [{k: v for k, v in lane.items() if k not in later} for lane in values["lanes"]]
    assert report.table(values).splitlines()[1].split()[3:5] == ["30", "20.0±14.1"]


def test_a_wide_table_is_condensed_to_fit_100_columns():
    lanes = [
        {"learning_rate": 0.0123, "horizon": 1234, "steps": 10_000, "target_tokens": 1500, "sample_id": i}
        for i in (0, 1)
    ]
    lanes[0]["horizon"] = 1000
    lanes[1] |= {"exact_first_mismatch": 3, "cached_first_mismatch": 1, "steps": 9_000}
    header, line = report.table(summary(*lanes)).splitlines()
    assert len(header) == len(line) <= 100
    assert line == (
        "story 0.0123     2     0   1500 1117.0±165.5 8.0±0.0 9500±707 1.000 1.000  1.000 exact:3 cached:1"
    )


COUNTED = {
    "trajectory_length": 36.1,
    "trajectory_components": 5,
    "vector_norm": 3.125,
    "relative_norm": 1.5,
    "as_published": {
        "tokens": 11,
        "information_gain_bits": 16.9,
        "trajectory_length": 56.4,
        "trajectory_components": 6,
    },
}
OTHER = {
    **COUNTED,
    **{"sample_id": 1, "horizon": 30, "trajectory_length": 38.1, "trajectory_components": 8},
    "as_published": COUNTED["as_published"] | {"tokens": 30},
}


def second(values, **options):
    return report.table(values, **options).partition("\n\n")[2].splitlines()


def test_the_second_table_is_of_trajectories_and_norms():
    values = summary(COUNTED, OTHER, {**COUNTED, "learning_rate": 0.5})
    assert second(values) == [
        "texts   lr  trajectory  PCA 99%       norm  rel. norm",
        "story  0.1    37.1±1.4  6.5±2.1  3.12±0.00  1.50±0.00",
        "story  0.5        36.1      5.0       3.12       1.50",
    ]
    assert second(values, as_published=True) == [
        "texts   lr       counted     tokens      gain  trajectory  PCA 99%       norm  rel. norm",
        "story  0.1          ours  20.0±14.1   8.0±0.0    37.1±1.4  6.5±2.1  3.12±0.00  1.50±0.00",
        "story  0.1  as published  20.5±13.4  16.9±0.0    56.4±0.0  6.0±0.0",
        "story  0.5          ours       10.0       8.0        36.1      5.0       3.12       1.50",
        "story  0.5  as published       11.0      16.9        56.4      6.0",
    ]
    assert second(values, per_text=True)[0].split()[:2] == ["text", "kind"]
    assert report.notes(values)[2:4] == [
        "trajectory: length over the exact stages; PCA 99%: principal components with 99% of its variance",
        "norm: of the resulting vector; rel. norm: over the mean norm of the model's token embeddings",
    ]
    assert report.notes(values, as_published=True)[4] == (
        "as published: with the failed stage, for comparison with the tables of Tarasov et al. 2026"
    )
    assert max(map(len, report.notes(values, as_published=True))) <= 100


def test_a_trajectory_that_was_not_stored_is_no_number():
    unknown = dict.fromkeys(("trajectory_length", "trajectory_components"))
    lane = {**COUNTED, **unknown, "as_published": COUNTED["as_published"] | unknown}
    assert second(summary(lane), as_published=True) == [
        "texts   lr       counted  tokens  gain  trajectory     PCA 99%  norm  rel. norm",
        "story  0.1          ours    10.0   8.0  not stored  not stored  3.12       1.50",
        "story  0.1  as published    11.0  16.9  not stored  not stored",
    ]


def test_full_mode_has_norms_and_no_trajectory():
    lane = {**FULL, "vector_norm": None, "relative_norm": 1.5, "as_published": None}
    values = summary(lane, mode="full")
    assert second(values, as_published=True) == [
        "texts   lr  norm  rel. norm",
        "story  0.1     -       1.50",
    ]
    assert [line for line in report.notes(values, as_published=True) if "trajectory" in line] == []


def test_a_run_without_lanes():
    assert report.table(summary()) == "no lane has ended yet"
    assert report.notes(summary()) == []


EXAMPLE = {
    "sample_id": 3,
    "learning_rate": 0.5,
    "seed": 1,
    "decode_tokens": 10,
    "target_tokens": 30,
    "original": "Once upon a time",
    "decoded": "Once upon a time",
    "first_mismatch": None,
    "agreeing": "",
    "identical": True,
}


@pytest.mark.parametrize(
    ("more", "heading", "verdict"),
    [
        ({}, "up to its horizon, 10 of 30 tokens:", "identical"),
        ({"decode_tokens": 30}, "the whole target of 30 tokens:", "identical"),
        (
            {"identical": False, "first_mismatch": 4, "agreeing": "Once upon"},
            "up to its horizon, 10 of 30 tokens:",
            "NOT identical: the first difference is token 4 of 10, after 'Once upon'",
        ),
        (
            {"identical": False, "first_mismatch": 0},
            "up to its horizon, 10 of 30 tokens:",
            "NOT identical: the first difference is token 0 of 10, at its start",
        ),
        (
            {"identical": False},
            "up to its horizon, 10 of 30 tokens:",
            "NOT identical: all tokens are right, but they do not decode to the text (unknown tokens?)",
        ),
    ],
)
def test_the_example_says_how_much_it_shows_and_where_it_differs(more, heading, verdict):
    assert report.sample(summary({}, example={**EXAMPLE, **more})) == [
        f"sample 3, learning rate 0.5, seed 1, {heading}",
        "original: Once upon a time",
        "decoded:  Once upon a time",
        verdict,
    ]


def test_an_example_of_an_earlier_version_has_the_lengths_of_its_lane():
    old = {name: EXAMPLE[name] for name in ("sample_id", "learning_rate", "seed", "original", "decoded")}
    lane = {"sample_id": 3, "learning_rate": 0.5, "seed": 1}
    lines = report.sample(summary({}, lane, example={**old, "identical": False}))
    assert lines[0] == "sample 3, learning rate 0.5, seed 1, up to its horizon, 10 of 30 tokens:"
    assert lines[-1] == "NOT identical"


def test_an_unfinished_run_has_no_example():
    assert report.sample(summary({}, lanes_in_all=4)) == [
        "no example: lanes are decoded when the run is finished"
    ]
