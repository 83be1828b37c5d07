"""The plots: what may happen in a story, as sequences of beats.

A plot is text, a line for each beat.  A line that starts with `| ` is an alternative to the line before it,
and one that starts with `? ` is a beat that may be left out.  The lines are templates (see `grammar`).
"""

from typing import NamedTuple

from jaxcram.stories import plots_deeds, plots_people
from jaxcram.stories.grammar import Grammar, ranked_table
from jaxcram.stories.rules import CLOSINGS, OPENINGS, RULES

_GRAMMAR = Grammar(RULES)


class Beat(NamedTuple):
    """One step of a plot: the templates that can tell it, and whether it may be skipped."""

    tellings: tuple
    optional: bool


def parse(plot: str) -> list[Beat]:
    """Compiles the lines of a plot."""
    beats: list[tuple[list[str], bool]] = []
    for line in plot.strip().splitlines():
        if line.startswith("| "):
            beats[-1][0].append(line[2:])
        else:
            optional = line.startswith("? ")
            beats.append(([line[2:] if optional else line], optional))
    return [Beat(ranked_table([_GRAMMAR.compile(t) for t in ts]), optional) for ts, optional in beats]


def table(text: str) -> tuple:
    """Compiles rows of ` | `-separated templates; the first rows are the likeliest, but only mildly."""
    rows = [
        tuple(_GRAMMAR.compile(column) for column in line.split(" | ")) for line in text.strip().splitlines()
    ]
    return tuple(row for rank, row in enumerate(rows) for _ in range(3 if 3 * rank < len(rows) else 2))


OPENING = tuple(_GRAMMAR.compile(line) for line in OPENINGS.strip().splitlines())
CLOSING = tuple(_GRAMMAR.compile(line) for line in CLOSINGS.strip().splitlines())
PLOTS = tuple(parse(plot) for plot in (plots_people.PLOTS | plots_deeds.PLOTS).values())
