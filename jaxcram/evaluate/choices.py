"""Items in tokens: where the context ends and an ending begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxcram.errors import UserError
from jaxcram.evaluate.tasks.task import Item
from jaxcram.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Choices:
    """An item of E endings in tokens.

    Attributes:
        id, label: of the item.
        context: int32 [n], the context alone, with BOS if it is added: what is crammed.
        texts: int32 [n_e] of each ending: context and ending, encoded together.
        num_context: of each text, tokens before the ending.
        text_characters: of each text, characters, without BOS.
        ending_characters: of each ending, characters, without the space before it.
    """

    id: int
    label: int
    context: np.ndarray
    texts: tuple[np.ndarray, ...]
    num_context: tuple[int, ...]
    text_characters: tuple[int, ...]
    ending_characters: tuple[int, ...]


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str, bos: bool | None = None
) -> tuple[list[int], int]:
    """Tokens of a context and its continuation, and how many of them are the context's.

    The rule of lm-evaluation-harness (`_encode_pair`): white space at the end of the context moves to the
    continuation, both are encoded together, and as many tokens are the context's as it has alone. Where
    a merge across the border takes all tokens of the continuation, its last token is the continuation's, for
    a continuation does not vanish.

    Args:
        tokenizer: of the model.
        context: may be empty; special tokens that the tokenizer puts first are the context's.
        continuation: not empty; it owns the space before it.
        bos: as in `Tokenizer.encode`.
    """
    if not continuation:
        raise ValueError("an empty continuation has no score")
    stripped = context.rstrip()
    tokens = tokenizer.encode(context + continuation, bos)
    return tokens, min(len(tokenizer.encode(stripped, bos)), len(tokens) - 1)


def encode_items(
    items: Iterable[Item],
    tokenizer: Tokenizer,
    *,
    max_positions: int,
    num_memory: int = 1,
    bos: bool | None = None,
) -> list[Choices]:
    """Items in tokens; an ending follows its context after one space, or after the context's own white space.

    Args:
        items: from `load_items`.
        tokenizer: of the model.
        max_positions: of the model; a text of n tokens after K memory embeddings needs K + n - 1.
        num_memory: K.
        bos: as in `Tokenizer.encode`.

    Raises:
        UserError: a text is too long for the model, or the tokenizer fails.
    """
    encoded = []
    for item in items:
        joined = "" if item.context[-1:].isspace() else " "
        pairs = [encode_pair(tokenizer, item.context, joined + ending, bos) for ending in item.endings]
        longest = max(len(tokens) for tokens, _ in pairs)
        if num_memory + longest - 1 > max_positions:
            raise UserError(
                f"item {item.id}: {longest} tokens after {num_memory} memory embeddings need "
                f"{num_memory + longest - 1} positions, the model has {max_positions}; choose other samples"
            )
        encoded.append(
            Choices(
                id=item.id,
                label=item.label,
                context=np.asarray(tokenizer.encode(item.context.rstrip(), bos), np.int32),
                texts=tuple(np.asarray(tokens, np.int32) for tokens, _ in pairs),
                num_context=tuple(number for _, number in pairs),
                text_characters=tuple(len(item.context + joined + ending) for ending in item.endings),
                ending_characters=tuple(len(ending) for ending in item.endings),
            )
        )
    return encoded
