"""How far a run is, as it is shown and logged."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Progress:
    """What a run has done so far; handed to whoever shows it.

    Attributes:
        lanes, alive: lanes of the whole run, and those that have not ended.
        exact_tokens: tokens of all longest exact prefixes together.
        passes, lane_steps: forward-and-backward passes of all devices, and optimiser steps of all lanes, in
            this start.
        useful_tokens, paid_tokens: tokens of unfinished lanes' current prefixes, and padded tokens computed.
        token_budget: padded tokens of one pass.
        remat: whether layers are recomputed on the way back.
        seconds: wall time since the first chunk of this start.
        left_s: seconds until the last lane is expected to end; None where nothing is known yet.
        note: something to tell the user, or "".
    """

    lanes: int
    alive: int
    token_budget: int
    remat: bool
    exact_tokens: int = 0
    passes: int = 0
    lane_steps: int = 0
    useful_tokens: int = 0
    paid_tokens: int = 0
    seconds: float = 0.0
    left_s: float | None = None
    note: str = ""
