"""The figures of a lane, as jaxcram counts them and as the tables of Tarasov et al. 2026 were counted.

Ours count the exact stages. Theirs count all stages, so unless the whole target became exact they include the
one that failed: its token, its embedding, and the information gain of a prefix whose last token is not right.

Published "compressed tokens" are the number of stages. Here they are the tokens of the last stage, which is
the same number if every stage adds one token.
"""

from __future__ import annotations

from typing import Any

from jaxcram.cram.rows import Outcome, Row, finite

_OF_TRAJECTORY = ("trajectory_length", "trajectory_components")  # null where embeddings are not kept
_NORMS = ("vector_norm", "relative_norm")


def figures(outcome: Outcome) -> dict[str, Any]:
    """The figures of a lane in summary.json.

    `information_gain_bits`, `trajectory_length` and `trajectory_components` (PCA 99%) are of the exact
    stages, `vector_norm` and `relative_norm` of the lane's resulting embedding. `as_published` has `tokens`
    and the first three again, of all stages; it is null in full mode, which has no stages and no trajectory.
    """
    row, last = outcome.row, outcome.last
    ours = _counted(row) if row is not None else {"information_gain_bits": 0.0, **_nothing(last)}
    published = None if last is None else {"tokens": last["stage_seq_len"], **_counted(last)}
    norms = {name: None if row is None else finite(row.get(name)) for name in _NORMS}
    return {**ours, **norms, "as_published": published}


def _counted(row: Row) -> dict[str, Any]:
    """Up to the stage of a row; rows of earlier versions lack some of the columns."""
    names = ("information_gain_bits", *_OF_TRAJECTORY)
    return {name: finite(row.get(name)) for name in names}


def _nothing(last: Row | None) -> dict[str, Any]:
    """Of a trajectory without any point."""
    stored = last is not None and last.get("trajectory_length") is not None
    return dict.fromkeys(_OF_TRAJECTORY, 0 if stored else None)
