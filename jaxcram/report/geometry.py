"""The lines of `jaxcram analyse` about walks and solutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxcram.report.analysis import Lines, mean_std, mean_within, number, within

_SQUARED = "R\N{SUPERSCRIPT TWO}"


def walk_lines(summary: Mapping[str, Any]) -> Lines:
    """Variance in the plane, components beside random walks and by prefix length, and jumps."""
    published, fits = summary["as_published"], summary["fits"]
    lines = [
        ("variance of PC1 and PC2", mean_std(summary["first_two"], 2)),
        ("variance of PC1 and PC2, as published", mean_std(published["first_two"], 2)),
        ("PCA 99% of random walks", mean_std(summary["random_walk_pca99"])),
        ("PCA 99% minus that of random walks", mean_within(summary["pca99_minus_random_walk"], 2)),
        (
            "lanes below 95% of their random walks",
            within(summary["below_random_walk"], summary["below_random_walk_interval"], ".0%"),
        ),
    ]
    for name, form in (("logarithmic", "log n"), ("linear", "n")):
        fit = fits[name]
        line = "-" if fit is None else f"{fit['a']:.1f} {fit['b']:+.2f} {form}, {_SQUARED} {fit['r2']:.2f}"
        lines.append((f"PCA 99% by prefix, {name}", line))
    lines.append(("lanes that log n fits better", number(fits["logarithmic_better"], ".0%")))
    for kind, label in (("distance", "jumps in distance"), ("step", "jumps in steps")):
        for of, which in ((summary, ""), (published, ", as published")):
            lines += [
                (f"{label}: max over median{which}", _of_lanes(of[f"{kind}_gap_ratio"], summary["lanes"])),
                (f"{label}: autocorrelation{which}", mean_std(of[f"{kind}_autocorrelation"], 2)),
                (f"{label}: autocorrelation, shuffled{which}", mean_std(of[f"{kind}_shuffled"], 2)),
                (f"{label}: lanes above 95% of shuffles{which}", number(of[f"{kind}_dwells"], ".0%")),
            ]
    return lines


def _of_lanes(spread: Mapping[str, Any], lanes: int) -> str:
    """A mean, and how many lanes have the value: with most stages free, a median is 0, and no ratio there."""
    return f"{mean_std(spread)} ({spread['count']} of {lanes} lanes)"


def solutions_lines(summary: Mapping[str, Any]) -> Lines:
    """Spread of gains, distances and directions across rates, then where all rates are exact; of seeds."""
    lines = []
    for of, which in ((summary, ""), (summary["as_published"], ", at all rates")):
        ratio = of["displacement_ratio"]
        lines += _solutions(of, which)
        lines += [
            (f"displacement, largest rate over smallest{which}", number(ratio and ratio["ratio"], ".1f"))
        ]
    seeds = summary["across_seeds"]
    return lines + (_solutions(seeds, ", across seeds") if seeds["groups"] else [])


def _solutions(summary: Mapping[str, Any], which: str) -> Lines:
    return [
        (f"prefixes of texts{which}", f"{summary['groups']} of {summary['texts']}"),
        (f"information gain, CV{which}", _median(summary["gain_cv"], ".1%")),
        (f"distance over displacement{which}", _median(summary["distance"], ".2f")),
        (f"cosine of displacements{which}", _median(summary["cosine"], "+.2f")),
    ]


def _median(measure: Mapping[str, Any], form: str) -> str:
    """The median over groups, and in brackets its interval: a gain near 0 bits would decide a mean."""
    return within(measure["median"], measure["interval"], form)


def lines_lines(summary: Mapping[str, Any]) -> Lines:
    """Accuracy along the straight lines between solutions of several rates, then of several seeds."""
    seeds = summary["across_seeds"]
    return _lines(summary, "") + (_lines(seeds, ", across seeds") if seeds["lines"] else [])


def _lines(summary: Mapping[str, Any], which: str) -> Lines:
    return [
        (f"lines between solutions{which}", f"{summary['lines']} of {summary['texts']} texts"),
        (f"lowest accuracy on the way{which}", mean_within(summary["least"], 2)),
        (f"share of the way above 0.9{which}", mean_within(summary["above"], 2)),
    ]


def seeds_lines(summary: Mapping[str, Any]) -> Lines:
    """Components of the set of solutions beside those of one trajectory."""
    return [
        ("prefixes", str(summary["prefixes"])),
        ("seeds", mean_std(summary["seeds"])),
        ("PCA 99% of their solutions", mean_std(summary["set_pca99"])),
        ("of as many as one trajectory has stages", mean_std(summary["matched_pca99"])),
        ("PCA 99% of one trajectory", mean_std(summary["trajectory_pca99"])),
        (
            "PCA 99% of their solutions minus that of one trajectory",
            mean_within(summary["set_minus_trajectory"]),
        ),
        ("of as many minus that of one trajectory", mean_within(summary["matched_minus_trajectory"])),
    ]
