"""Capacity in bits: how much of what surprises the model alone one embedding holds, and at what cost.

The bits of a horizon are the surprisal of its tokens under the model alone. Information gain says how many of
these bits the embedding supplies. Token 0, which nothing predicts without the embedding, is in neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcram.analysis.spread import Line, Spread, finite

if TYPE_CHECKING:
    import pyarrow as pa

_LANE = ("sample_id", "learning_rate", "seed")
COLUMNS = (  # of the rows, which are read here
    *(*_LANE, "stage_seq_len", "steps_taken", "exact"),
    *("surprisal_bits", "information_gain_bits"),
)


def capacities(rows: pa.Table) -> list[dict[str, Any]]:
    """One row a lane, of its exact stages.

    Each has `sample_id`, `learning_rate`, `seed`; `horizon` (tokens); `horizon_bits`, their surprisal under
    the model alone; `horizon_steps`, the optimiser steps up to there; `bits_per_step`, None where no step was
    taken; `information_gain_bits`; and `gain_share`, the gain over the bits of the horizon, None where these
    are 0.

    Args:
        rows: of a run, in any order; `COLUMNS` are enough.
    """
    lanes: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows.select(COLUMNS).to_pylist():
        lanes.setdefault(tuple(row[name] for name in _LANE), []).append(row)
    return [_capacity(lane, stages) for lane, stages in sorted(lanes.items())]


def _capacity(lane: tuple[Any, ...], stages: list[dict[str, Any]]) -> dict[str, Any]:
    exact = sorted((row for row in stages if row["exact"]), key=lambda row: row["stage_seq_len"])
    last = exact[-1] if exact else {"stage_seq_len": 0, "steps_taken": 0, "information_gain_bits": 0.0}
    surprisals = [row["surprisal_bits"] for row in exact]
    gain, steps = last["information_gain_bits"], last["steps_taken"]
    bits = None if None in surprisals else finite(sum(surprisals))
    return {
        **dict(zip(_LANE, lane, strict=True)),
        "horizon": last["stage_seq_len"],
        "horizon_bits": bits,
        "horizon_steps": steps,
        "bits_per_step": bits / steps if steps and bits is not None else None,
        "information_gain_bits": finite(gain),
        "gain_share": finite(gain / bits) if bits and gain is not None else None,
    }


@dataclasses.dataclass(frozen=True)
class Capacity:
    """The capacities of several lanes: means, and gain against horizon.

    Attributes:
        horizon_bits, bits_per_step, gain_share: over the lanes, see `capacities`.
        gain_by_horizon: information gain as a line in the horizon, bits per token; None if it has none.
    """

    horizon_bits: Spread
    bits_per_step: Spread
    gain_share: Spread
    gain_by_horizon: Line | None


def capacity(lanes: Sequence[Mapping[str, Any]]) -> Capacity:
    """Means over rows of `capacities`, and the line of their gain in their horizon."""
    names = ("horizon_bits", "bits_per_step", "gain_share")
    known = [lane for lane in lanes if lane["information_gain_bits"] is not None]
    x, y = (np.array([lane[name] for lane in known], float) for name in ("horizon", "information_gain_bits"))
    bits, per_step, share = (Spread.of(lane[name] for lane in lanes) for name in names)
    return Capacity(bits, per_step, share, Line.of(x, y))
