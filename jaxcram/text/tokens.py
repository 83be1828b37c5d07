"""Texts as targets: their tokens, and what the model can take of them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxcram.errors import UserError
from jaxcram.text.sources import Text, load_texts
from jaxcram.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Sample", "Text", "Tokenizer", "load_texts", "load_tokenizer", "pad_tokens", "tokenize"]

_CHARACTERS = 1 << 18  # tokenised of a text; more where more tokens are asked for
_CHARACTERS_A_TOKEN = 16  # no natural text has more over its whole length
_MOST_ID = 2**31 - 1
_MOST_NAMED = 10  # of the texts that do not come back

_LOGGER = logging.getLogger("jaxcram.texts")


@dataclass(frozen=True, eq=False)
class Sample:
    """One target.

    Attributes:
        sample_id: index of the text in its source.
        text: the text, or, where it was truncated, what the kept tokens decode to.
        tokens: int32 [n], BOS included where one is added.
        restored: whether the tokens decode to the text, or to its beginning where it was truncated.
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
    """Targets of the texts, in tokens.

    Args:
        texts: what `load_texts` returned.
        tokenizer: what `load_tokenizer` returned.
        max_tokens: keep the first so many tokens of each text, BOS included; None keeps all.
        bos: None as the tokenizer's default, True and False force it.
        max_positions: the positions that the model has.
        num_memory: K, the memory embeddings; with a target of n tokens, K + n - 1 positions are in use.

    Raises:
        UserError: a text is shorter than two tokens, or longer than the model's positions; nothing in it has
            a token; the model has no positions for so many memory embeddings; or see `Tokenizer.encode`.

    Texts that their tokens do not give back are named in one warning of the logger "jaxcram".
    """
    if max_tokens is not None and max_tokens < 2:
        raise UserError(f"max_tokens={max_tokens}: a target has at least 2 tokens")
    if num_memory + 1 > max_positions:  # a target of two tokens
        raise UserError(
            f"num_memory={num_memory}: the model has {max_positions} positions, and a text needs one too; "
            f"lower it to {max_positions - 1}"
        )
    # A book of which a page is wanted need not be tokenised to its end: every token takes memory.
    enough = max(_CHARACTERS, _CHARACTERS_A_TOKEN * (max_tokens or max_positions))
    samples: list[Sample] = []
    lost: list[str] = []
    for text in texts:
        ids = tokenizer.encode(text.text[:enough], bos=bos)
        kept = ids[:max_tokens]
        whole = len(text.text) <= enough and len(kept) == len(ids)
        if max(kept, default=0) > _MOST_ID:
            raise UserError(
                f"sample {text.sample_id}: its token {max(kept)} is no id of a model; mend tokenizer.json"
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
                f"take {num_memory + len(kept) - 1} positions, the model has {max_positions}; "
                f"cut the texts with max_tokens={max_positions - num_memory + 1}"
            )
        content = text.text if whole else tokenizer.decode(kept)
        restored = tokenizer.restores(kept, text.text, cut=not whole)
        if not restored:
            lost.append(_loss(text, kept, tokenizer))
        samples.append(Sample(text.sample_id, content, np.asarray(kept, dtype=np.int32), restored))
    if lost:
        named = "; ".join(lost[:_MOST_NAMED]) + ("; ..." if len(lost) > _MOST_NAMED else "")
        _LOGGER.warning(
            "%d of %d texts cannot come back as they are, as their tokens do not decode to them: %s",
            len(lost),
            len(samples),
            named,
        )
    return samples


def _loss(text: Text, ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """What is told of a text that its tokens do not give back; one of which nothing is left is refused."""
    known = [token for token in tokenizer.content(ids) if token != tokenizer.unk_id]
    unknown = len(tokenizer.content(ids)) - len(known)
    if not tokenizer.decode(known, skip_special=False).strip():
        raise UserError(
            f"sample {text.sample_id}: {text.text[:40]!r} is nothing but unknown tokens to this tokenizer; "
            "leave it out, or take a model whose tokenizer knows its characters"
        )
    return f"sample {text.sample_id}" + (f" ({unknown} of {len(ids)} tokens unknown)" if unknown else "")


def pad_tokens(targets: Sequence[np.ndarray], rows: int, length: int) -> np.ndarray:
    """Targets, each cut or zero-padded to `length`, as int32 [rows, length]; rows beyond them are zeros."""
    tokens = np.zeros((rows, length), np.int32)
    for row, target in zip(tokens, targets, strict=False):
        row[: len(target)] = target[:length]
    return tokens
