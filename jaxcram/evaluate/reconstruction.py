"""What comes back from embeddings under teacher forcing and from both greedy decoders.

Full cramming that stops at 99% of the tokens seems nearly done under teacher forcing, where every token is
predicted after the right ones. Decoded greedily, the first wrong token is read by all that follow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcram import decode
from jaxcram.evaluate import accuracy
from jaxcram.models.decoder import Decoder
from jaxcram.results.reconstruction import DECODERS
from jaxcram.results.table import Row

_FORMS = {"tf": "teacher_forced", "exact": "exact", "cached": "cached"}  # names in `jaxcram.decode`


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """One embedding on its target.

    Attributes:
        target_T: the tokens that were to come back, int32.
        tokens: those that came back, int32 [T], by decoder: "tf", "exact" and "cached".
        margins_T: logit of each token minus the largest other one under teacher forcing, fp32.
    """

    target_T: np.ndarray
    tokens: Mapping[str, np.ndarray]
    margins_T: np.ndarray

    def right(self, decoder: str) -> np.ndarray:
        """Which tokens came back, bool [T]."""
        return self.tokens[decoder] == self.target_T

    def columns(self, *, with_after: bool = True) -> Row:
        """What a row of `jaxcram.results.reconstruction` has of it.

        Args:
            with_after: whether accuracies after the first miss are a result.
        """
        row: Row = {}
        for name in DECODERS:
            right_T = self.right(name)
            first = first_miss(right_T)
            row |= {
                f"{name}_accuracy": float(right_T.mean()),
                f"{name}_wrong": int(np.sum(~right_T)),
                f"{name}_first_miss": first,
                f"{name}_after_first_miss": after_first_miss(right_T) if with_after else None,
                f"{name}_ids": self.tokens[name],
            }
        prefix_N = self.margins_T[: row["tf_first_miss"]]
        return row | {
            "margins": self.margins_T,
            "least_margin": float(prefix_N.min()) if len(prefix_N) else None,
            "target_ids": self.target_T,
        }


def measure(
    model: Decoder,
    mem_SxKxD: np.ndarray,
    targets: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, int]],
) -> list[Reconstruction]:
    """Every embedding on its target.

    Args:
        model: the frozen decoder.
        mem_SxKxD: memory embeddings, fp32.
        targets: the tokens that each is to reproduce, int32 [T].
        shapes: padded tokens and lanes per device of the passes that measured each (see `decode.verify`).
    """
    decoded = decode.verify(model, mem_SxKxD, targets, shapes)
    margins = decode.margins(model, mem_SxKxD, targets, shapes)
    return [
        Reconstruction(target, {name: tokens[form] for name, form in _FORMS.items()}, margins_T)
        for target, tokens, margins_T in zip(targets, decoded, margins, strict=True)
    ]


def first_miss(right_T: np.ndarray) -> int | None:
    """Index of the first wrong token; None if there is none."""
    return None if right_T.all() else int(np.argmin(right_T))


def after_first_miss(right_T: np.ndarray) -> float | None:
    """Share of the tokens after the first wrong one that are right; None if there are none."""
    first = first_miss(right_T)
    after_N = right_T[len(right_T) if first is None else first + 1 :]
    return float(after_N.mean()) if len(after_N) else None


def mismatch_rates(rights: Sequence[np.ndarray]) -> list[float]:
    """The share of lanes in which a token is wrong, by its position, over those that have that position."""
    longest = max(map(len, rights), default=0)
    return [
        float(np.mean([not right_T[i] for right_T in rights if len(right_T) > i])) for i in range(longest)
    ]


def lanes_within(wrong: Iterable[int]) -> list[int]:
    """How many lanes have at most 0, 1, 2, ... wrong tokens, up to the most that a lane has, or 2."""
    wrong = list(wrong)
    return [sum(count <= most for count in wrong) for most in range(max([2, *wrong]) + 1)]


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What each setup of a run and learning rate comes to, in the order of the rows.

    Args:
        rows: of `jaxcram.results.reconstruction`.

    Returns:
        `setup`, `run` and `learning_rate`; the `lanes`, of which some `converged` and some are `empty` (no
        token to reproduce, so they are in nothing that follows); means of `tokens` and `steps`; the
        `least_margin`; and for each decoder its `accuracy`, a mean over lanes, with the 95% `interval` of a
        bootstrap and the standard deviation `std`, null for one lane; `after_first_miss`, the mean over the
        `after_lanes` that have it; `mismatch`, by position the share of lanes that are wrong there; and
        `within`, how many lanes have at most 0, 1, 2, ... wrong tokens.
    """
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["setup"], row["run"], row["learning_rate"]), []).append(row)
    return [
        {"setup": setup, "run": run, "learning_rate": rate, **_group(members)}
        for (setup, run, rate), members in groups.items()
    ]


def _group(rows: Sequence[Row]) -> dict[str, Any]:
    full = [row for row in rows if row["tokens"]]
    margins = [row["least_margin"] for row in full if row["least_margin"] is not None]
    return {
        "lanes": len(rows),
        "converged": sum(row["converged"] for row in rows),
        "empty": len(rows) - len(full),
        "tokens": float(np.mean([row["tokens"] for row in rows])),
        "steps": float(np.mean([row["steps_taken"] for row in rows])),
        "least_margin": min(margins, default=None),
        "decoders": {name: _of_decoder(full, name) for name in DECODERS},
    }


def _of_decoder(rows: Sequence[Row], name: str) -> dict[str, Any]:
    accuracies = [row[f"{name}_accuracy"] for row in rows]
    after = [share for row in rows if (share := row[f"{name}_after_first_miss"]) is not None]
    found = accuracy.mean(np.array(accuracies))
    rights = [np.asarray(row[f"{name}_ids"]) == np.asarray(row["target_ids"]) for row in rows]
    return {
        "accuracy": _known(found.mean),
        "interval": [_known(found.low), _known(found.high)],
        "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "after_first_miss": float(np.mean(after)) if after else None,
        "after_lanes": len(after),
        "mismatch": mismatch_rates(rights),
        "within": lanes_within(row[f"{name}_wrong"] for row in rows),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
