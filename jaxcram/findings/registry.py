"""The analyses of `jaxcram analyse`, in the order of its table. A new one is an entry here."""

from __future__ import annotations

from collections.abc import Sequence

from jaxcram.errors import UserError
from jaxcram.findings.analysis import Analysis
from jaxcram.findings.capacity import CAPACITY
from jaxcram.findings.landscape import LANDSCAPE
from jaxcram.findings.lanes import TRAJECTORY
from jaxcram.findings.lines import LINES
from jaxcram.findings.reconstruction import RECONSTRUCTION
from jaxcram.findings.solutions import SEEDS, SOLUTIONS
from jaxcram.findings.surprisal import SURPRISAL
from jaxcram.findings.walk import WALK

ANALYSES: tuple[Analysis, ...] = (
    *(TRAJECTORY, WALK, SURPRISAL, CAPACITY, SOLUTIONS, SEEDS),
    *(LINES, RECONSTRUCTION, LANDSCAPE),  # they ask the model
)


def chosen(names: Sequence[str] = ()) -> list[Analysis]:
    """The analyses of some names; of none: those that take seconds.

    Raises:
        UserError: there is no analysis of a name.
    """
    known = {analysis.name: analysis for analysis in ANALYSES}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"analyses: {unknown[0]!r} is unknown; choose from {', '.join(known)}")
    return [one for one in ANALYSES if (one.name in names if names else one.default)]


def drawing(figure: str) -> Analysis:
    """The analysis that has a figure of a name.

    Raises:
        UserError: none has.
    """
    known = {name: analysis for analysis in ANALYSES for name in analysis.figures}
    if figure not in known:
        raise UserError(f"there is no figure {figure!r}; choose from {', '.join(known)}")
    return known[figure]
