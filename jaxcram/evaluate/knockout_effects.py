"""What knockout does to the reconstruction of contexts and to decisions, item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxcram.errors import UserError
from jaxcram.evaluate.accuracy import NORMALIZATIONS, chosen
from jaxcram.evaluate.choices import Choices
from jaxcram.evaluate.knockout import Sweep
from jaxcram.evaluate.multiple_choice import Score, score
from jaxcram.evaluate.packing import BATCH_TOKENS, layers_of, text_fits
from jaxcram.models.decoder import Decoder, Knockout, OwnRowKnockout

BASE = "base"  # the condition without memory
_WITHOUT = {"memory": "base", "memory_ending": "base_ending", "memory_edge": "base"}


class Effect(NamedTuple):
    """One item under one condition.

    Attributes:
        item: its id.
        condition: a name of the `Sweep`, or `BASE`.
        tf_accuracy: share of the context's tokens that are right, teacher-forced, token 0 included; NaN for
            `BASE`, in which nothing predicts token 0.
        log_probs: of each ending as scored, in nats; none if the item has no endings.
        right: whether the right ending is chosen, by each of `accuracy.NORMALIZATIONS`; empty for texts.
    """

    item: int
    condition: str
    tf_accuracy: float
    log_probs: tuple[float, ...] = ()
    right: Mapping[str, bool] = {}


def effects(
    model: Decoder,
    choices: Sequence[Choices],
    mem_IxKxD: np.ndarray,
    conditions: Sweep,
    *,
    scored: str = "memory",
    own_row: bool = False,
) -> list[Effect]:
    """Every item without memory, and under every condition.

    All conditions of all items are one batch axis. Host memory grows with items times conditions, so a
    program calls this for a group of items at a time.

    Args:
        model: the frozen decoder.
        choices: the items in tokens.
        mem_IxKxD: the crammed embedding of each, fp32.
        conditions: from `sweep`.
        scored: which score of the endings: memory, memory_ending or memory_edge.
        own_row: bar the memory from itself too, as published code does (see `OwnRowKnockout`); with all
            layers barred the scores are still those of the text alone.

    Returns:
        Item by item: `BASE`, then the conditions in their order. The order of items changes no bit.

    Raises:
        UserError: a log-probability is not finite, or `scored` is another score.
    """
    if scored not in _WITHOUT:
        raise UserError(f"scored={scored} must be one of {', '.join(_WITHOUT)}")
    knockout, count = _knockout(conditions, own_row), len(choices)
    tf_CxI = tf_accuracies(model, [item.context for item in choices], mem_IxKxD, knockout)
    base = score(model, choices, names=[_WITHOUT[scored]])
    knocked = score(model, choices, mem_IxKxD, names=[scored], knockout_CxL=knockout)
    found = []
    for number, without in enumerate(base):
        found.append(_effect(BASE, np.nan, without))
        for name, tf_I, with_memory in zip(conditions.names, tf_CxI, knocked[number::count], strict=True):
            found.append(_effect(name, tf_I[number], with_memory))
    return found


def text_effects(
    model: Decoder,
    targets: Mapping[int, np.ndarray],
    mem_IxKxD: np.ndarray,
    conditions: Sweep,
    *,
    own_row: bool = False,
) -> list[Effect]:
    """Every text under every condition, as `effects`, where there are no endings to choose from.

    Args:
        model: the frozen decoder.
        targets: int32 [n] by id.
        mem_IxKxD, conditions, own_row: as for `effects`.
    """
    tf_CxI = tf_accuracies(model, list(targets.values()), mem_IxKxD, _knockout(conditions, own_row))
    return [
        Effect(item, condition, float(tf_I[number]))
        for number, item in enumerate(targets)
        for condition, tf_I in zip(conditions.names, tf_CxI, strict=True)
    ]


def tf_accuracies(
    model: Decoder,
    targets: Sequence[np.ndarray],
    mem_IxKxD: np.ndarray,
    knockout_CxL: Knockout,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> np.ndarray:
    """Share of each target's tokens that are right under each condition, teacher-forced, fp32 [C, I].

    Token 0, which the memory alone predicts, counts. A tie counts as wrong, as in cramming.

    Args:
        model: the frozen decoder.
        targets: int32 [n] of each of I targets.
        mem_IxKxD: memory embeddings of each, fp32.
        knockout_CxL: layers at which the target does not see the memory (see `packing.text_fits`).
        batch_tokens: tokens of a pass, padding included.
    """
    fits = text_fits(
        model,
        targets,
        np.asarray(mem_IxKxD, np.float32),
        knockout_CxL=knockout_CxL,
        batch_tokens=batch_tokens,
    )
    shares = np.array([fit.correct.mean() for fit in fits], np.float32)
    return shares.reshape(len(layers_of(knockout_CxL)), len(targets))


def _knockout(conditions: Sweep, own_row: bool) -> Knockout:
    return OwnRowKnockout(conditions.layers_CxL) if own_row else conditions.layers_CxL


def _effect(condition: str, tf_accuracy: float, scored: Score) -> Effect:
    right = {by: chosen(scored, by) == scored.label for by in NORMALIZATIONS}
    return Effect(scored.item, condition, float(tf_accuracy), scored.log_probs, right)
