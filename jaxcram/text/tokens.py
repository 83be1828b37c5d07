"""Targets: texts as tokens, checked against the model's number of positions."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxcram.errors import UserError
from jaxcram.text.sources import Text, load_texts
from jaxcram.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Sample", "Text", "Tokenizer", "load_texts", "load_tokenizer", "pad_tokens", "padded", "tokenize"]

_CHARACTERS = 1 << 18  # of a text that are tokenised, at least
_CHARACTERS_A_TOKEN = 16  # upper bound for natural texts, on average
_MOST_ID = 2**31 - 1
_MOST_NAMED = 10  # texts named in the warning

_LOGGER = logging.getLogger("jaxcram.texts")


@dataclass(frozen=True, eq=False)
class Sample:
    """One target.

    Attributes:
        sample_id: index of the text in its source.
        text: the text; if it was truncated, the decoded tokens.
        tokens: int32 [n], with BOS if it is added.
        restored: whether the tokens decode to the text, or to its beginning if it was truncated.
    """

    sample_id: int
    text: str
    tokens: np.ndarray
    restored: bool = True


def tokenize(
    texts: Iterable[Text],
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None,
    bos: bool | None,
    max_positions: int,
    num_memory: int = 1,
) -> list[Sample]:
    """Tokenises texts into targets.

    Args:
        texts: from `load_texts`.
        tokenizer: from `load_tokenizer`.
        max_tokens: number of tokens to keep of each text, including BOS; None keeps all.
        bos: True or False begin with BOS or not; None follows the tokenizer's default.
        max_positions: number of positions of the model.
        num_memory: K, the memory embeddings; a target of n tokens uses K + n - 1 positions.

    Raises:
        UserError: a text has fewer than two tokens, more than the model has positions for, or only unknown
            tokens; the model has too few positions for the memory; or as `Tokenizer.encode`.

    Texts that cannot be restored from their tokens are named in one warning of the logger "jaxcram.texts".
    """
    if max_tokens is not None and max_tokens < 2:
        raise UserError(f"max_tokens={max_tokens}: a target needs at least 2 tokens")
    if num_memory + 1 > max_positions:  # a target of two tokens
        raise UserError(
            f"num_memory={num_memory}: the model has {max_positions} positions, and a text needs at least "
            f"one; lower it to {max_positions - 1}"
        )
    # A long text of which only the beginning is kept need not be tokenised to its end.
    enough = max(_CHARACTERS, _CHARACTERS_A_TOKEN * (max_tokens or max_positions))
    samples: list[Sample] = []
    lost: list[str] = []
    for text in texts:
        ids = tokenizer.encode(text.text[:enough], bos=bos)
        kept = ids[:max_tokens]
        whole = len(text.text) <= enough and len(kept) == len(ids)
        if max(kept, default=0) > _MOST_ID:
            raise UserError(
                f"sample {text.sample_id}: its token {max(kept)} is too large an id; correct tokenizer.json"
            )
        if len(kept) < 2:
            raise UserError(
                f"sample {text.sample_id}: {text.text[:40]!r} has fewer than 2 tokens ({len(kept)}); "
                "give a longer text"
            )
        if num_memory + len(kept) - 1 > max_positions:
            more = "at least " if len(text.text) > enough else ""
            raise UserError(
                f"sample {text.sample_id}: {more}{len(kept)} tokens after {num_memory} memory embeddings "
                f"need {num_memory + len(kept) - 1} positions, the model has {max_positions}; "
                f"truncate the texts with max_tokens={max_positions - num_memory + 1}"
            )
        content = text.text if whole else tokenizer.decode(kept)
        restored = tokenizer.restores(kept, text.text, cut=not whole)
        if not restored:
            lost.append(_loss(text, kept, tokenizer))
        samples.append(Sample(text.sample_id, content, np.asarray(kept, dtype=np.int32), restored))
    if lost:
        named = "; ".join(lost[:_MOST_NAMED]) + ("; ..." if len(lost) > _MOST_NAMED else "")
        _LOGGER.warning(
            "%d of %d texts cannot be restored exactly, since their tokens do not decode to them: %s",
            len(lost),
            len(samples),
            named,
        )
    return samples


def _loss(text: Text, ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The part of the warning on a text that cannot be restored; UserError if all its tokens are unknown."""
    known = [token for token in tokenizer.content(ids) if token != tokenizer.unk_id]
    unknown = len(tokenizer.content(ids)) - len(known)
    if not tokenizer.decode(known, skip_special=False).strip():
        raise UserError(
            f"sample {text.sample_id}: {text.text[:40]!r} has only unknown tokens in this tokenizer; "
            "remove it, or use a model whose tokenizer knows its characters"
        )
    return f"sample {text.sample_id}" + (f" ({unknown} of {len(ids)} tokens unknown)" if unknown else "")


def padded(length: int) -> int:
    """The least padded length, which is not 0, that holds so many tokens.

    It is a multiple of an eighth of a power of two, so that texts of any lengths have few shapes.
    """
    multiple = max(8, (1 << (length - 1).bit_length()) // 8)
    return -(-max(1, length) // multiple) * multiple


def pad_tokens(targets: Sequence[np.ndarray], rows: int, length: int) -> np.ndarray:
    """Targets, each truncated or zero-padded to `length`, as int32 [rows, length]; missing rows are zeros."""
    tokens = np.zeros((rows, length), np.int32)
    for row, target in zip(tokens, targets, strict=False):
        row[: len(target)] = target[:length]
    return tokens
