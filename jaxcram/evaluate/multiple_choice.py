"""Multiple choice: eight scores of every ending, with a crammed embedding and without.

A score is the log-probability of tokens of a text, summed, with the counts that normalise it:

    name            read                          scored
    base            context, ending               both
    base_ending     context, ending               ending
    memory          embedding, context, ending    both
    memory_ending   embedding, context, ending    ending
    memory_edge     embedding, context, ending    both, with the first token, which the embedding predicts
    instead         embedding, ending             ending
    instead_ending  embedding, ending             ending
    instead_edge    embedding, ending             ending, with the first token, which the embedding predicts

Without `edge` the first token of what is read is not scored, with or without an embedding. So `instead` and
`instead_ending` are the same number, as published ([P]): there the ending is the whole text. The embedding
stands for BOS too, if the context has it. Endings are tokenised as after their context everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from jaxcram.errors import UserError
from jaxcram.evaluate.choices import Choices
from jaxcram.evaluate.packing import BATCH_TOKENS, layers_of, text_fits
from jaxcram.models.decoder import Decoder, Knockout


class _Kind(NamedTuple):
    """What is read, and what is scored of it."""

    memory: bool
    context: bool
    scored: str  # "text", "ending", or "edge"


_KINDS = {
    "base": _Kind(False, True, "text"),
    "base_ending": _Kind(False, True, "ending"),
    "memory": _Kind(True, True, "text"),
    "memory_ending": _Kind(True, True, "ending"),
    "memory_edge": _Kind(True, True, "edge"),
    "instead": _Kind(True, False, "text"),
    "instead_ending": _Kind(True, False, "ending"),
    "instead_edge": _Kind(True, False, "edge"),
}
SCORES = tuple(_KINDS)
BASE_SCORES = tuple(name for name, kind in _KINDS.items() if not kind.memory)


@dataclasses.dataclass(frozen=True)
class Score:
    """One score of the E endings of one item.

    Attributes:
        item: id of the item.
        name: one of `SCORES`.
        label: the right ending.
        log_probs: [E], sums over the scored tokens, in nats.
        tokens: [E], how many are scored; with 0 there is nothing to compare.
        characters: [E], of the text or of the ending, whichever is scored.
    """

    item: int
    name: str
    label: int
    log_probs: tuple[float, ...]
    tokens: tuple[int, ...]
    characters: tuple[int, ...]


def score(
    model: Decoder,
    choices: Sequence[Choices],
    mem_IxKxD: np.ndarray | None = None,
    *,
    names: Collection[str] | None = None,
    knockout_CxL: Knockout | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Score]:
    """Scores of items, all endings batched.

    Args:
        model: the frozen decoder.
        choices: the items in tokens.
        mem_IxKxD: the crammed embeddings of each, fp32; None allows only the `BASE_SCORES`.
        names: the scores to compute; None computes all that there can be.
        knockout_CxL: conditions, under each of which all items are scored: layers at which the text does not
            see the memory (see `forward.predict`). None is one condition that bars nothing.
        batch_tokens: tokens of a pass, padding included.

    Returns:
        Condition by condition, and under each the scores of the first item in the order of `SCORES`, then
        those of the second, and so on. The order of the items changes no bit of them.

    Raises:
        UserError: a log-probability is not finite.
        ValueError: a name is unknown, or needs embeddings that are not given.
    """
    possible = BASE_SCORES if mem_IxKxD is None else SCORES
    names = possible if names is None else names
    if impossible := set(names) - set(possible):
        raise ValueError(f"no score {min(impossible)!r}; there can be {', '.join(possible)}")
    kinds = {name: _KINDS[name] for name in SCORES if name in names}

    nlls = {}
    for memory, context in sorted({(kind.memory, kind.context) for kind in kinds.values()}):
        nlls[memory, context] = _nlls(
            model,
            choices,
            mem_IxKxD if memory else None,
            context=context,
            knockout_CxL=knockout_CxL if memory else None,
            batch_tokens=batch_tokens,
        )
    return [
        # Without memory there is nothing to bar, and all conditions are one.
        _score(name, kind, item, nlls[kind.memory, kind.context][condition * kind.memory][number])
        for condition in range(len(layers_of(knockout_CxL)))
        for number, item in enumerate(choices)
        for name, kind in kinds.items()
    ]


def _nlls(
    model: Decoder,
    choices: Sequence[Choices],
    mem_IxKxD: np.ndarray | None,
    *,
    context: bool,
    knockout_CxL: Knockout | None,
    batch_tokens: int,
) -> list[list[list[np.ndarray]]]:
    """-log p of the tokens of what is read, fp32 [n] of each ending of each item under each condition."""
    texts = [
        text if context else text[start:]
        for item in choices
        for text, start in zip(item.texts, item.num_context, strict=True)
    ]
    fits = text_fits(
        model,
        texts,
        None if mem_IxKxD is None else np.asarray(mem_IxKxD, np.float32),
        owner_S=np.repeat(np.arange(len(choices)), [len(item.texts) for item in choices]),
        knockout_CxL=knockout_CxL,
        batch_tokens=batch_tokens,
    )
    flat = iter(fits)
    return [
        [[next(flat).nll for _ in item.texts] for item in choices]
        for _ in range(len(layers_of(knockout_CxL)))
    ]


def _score(name: str, kind: _Kind, item: Choices, nlls: Sequence[np.ndarray]) -> Score:
    if kind.scored == "edge":
        starts = [0] * len(nlls)
    elif kind.scored == "ending" and kind.context:
        starts = [max(1, start) for start in item.num_context]
    else:
        starts = [1] * len(nlls)
    scored = [nll[start:] for nll, start in zip(nlls, starts, strict=True)]
    if not all(np.isfinite(nll).all() for nll in scored):
        raise UserError(
            f"item {item.id}: a log-probability of {name} is not finite; the model is damaged, or overflows "
            "in its dtype"
        )
    whole = kind.context and kind.scored != "ending"
    return Score(
        item=item.id,
        name=name,
        label=item.label,
        log_probs=tuple(-float(nll.sum(dtype=np.float64)) for nll in scored),
        tokens=tuple(map(len, scored)),
        characters=item.text_characters if whole else item.ending_characters,
    )
