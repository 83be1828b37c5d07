"""The plots: what may happen in a story, as sequences of beats.

A plot is text, a line for each beat.  The lines are templates (see `grammar`), and may start with a mark:

    |     another way to tell the beat of the line before
    ?     a beat that may be left out
    ~     a beat that may change places with the one told before it; ?~ is both
"""

from typing import NamedTuple

from jaxcram.text.stories import plots_deeds, plots_people
from jaxcram.text.stories.grammar import Grammar, Template, ranked_table
from jaxcram.text.stories.rules import CLOSINGS, OPENINGS, RULES

_GRAMMAR = Grammar(RULES)
_BEAT_MARKS = ("| ", "? ", "~ ", "?~ ")


class Beat(NamedTuple):
    """One step of a plot: the templates that can tell it, and whether it may be skipped or come earlier."""

    tellings: tuple[Template, ...]
    optional: bool
    movable: bool


def parse(plot: str) -> list[Beat]:
    """Compiles the lines of a plot."""
    beats: list[tuple[str, list[Template]]] = []
    for line in plot.strip().splitlines():
        mark = next((mark for mark in _BEAT_MARKS if line.startswith(mark)), "")
        template = line.removeprefix(mark)
        if mark == "| ":
            beats[-1][1].append(_GRAMMAR.compile(template))
        else:
            beats.append((mark, [_GRAMMAR.compile(template)]))
    return [Beat(ranked_table(tellings), "?" in mark, "~" in mark) for mark, tellings in beats]


def table(text: str) -> tuple[tuple[Template, ...], ...]:
    """Compiles rows of ` | `-separated templates; the first rows are the likeliest, but only mildly."""
    rows = [
        tuple(_GRAMMAR.compile(column) for column in line.split(" | ")) for line in text.strip().splitlines()
    ]
    return tuple(row for rank, row in enumerate(rows) for _ in range(3 if 3 * rank < len(rows) else 2))


OPENING = tuple(_GRAMMAR.compile(line) for line in OPENINGS.strip().splitlines())
CLOSING = tuple(_GRAMMAR.compile(line) for line in CLOSINGS.strip().splitlines())
PLOTS = tuple(parse(plot) for plot in (plots_people.PLOTS | plots_deeds.PLOTS).values())
