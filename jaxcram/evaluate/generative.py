"""Generative multiple choice: a model writes on after solved questions (shots), and names a letter or none.

    mode         memory                            text after it
    few_shot     the shots of the item's subject   the question
    full_prefix  the shots and the question        nothing
    random       a random vector                   the question
    none         nothing                           the shots and the question

`none` is the base. The question is the same tokens in all modes, those that it has after its shots.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxcram.cram.settings import CramSettings
from jaxcram.cram.start import initial_embeddings
from jaxcram.errors import UserError
from jaxcram.evaluate.choices import encode_pair
from jaxcram.evaluate.greedy import generated, until_end
from jaxcram.evaluate.packing import BATCH_TOKENS
from jaxcram.evaluate.settings import BASE_MODE, MODES
from jaxcram.evaluate.tasks.mmlu import LETTERS
from jaxcram.evaluate.tasks.task import Item
from jaxcram.models.decoder import Decoder
from jaxcram.results.table import Job
from jaxcram.text.tokenizer import Tokenizer
from jaxcram.text.tokens import Sample

NEW_TOKENS = 5  # as published ([P])

_LETTER = re.compile(f"[{LETTERS}]")


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """What is read before an answer is generated.

    Attributes:
        item: the question.
        mode: one of `jaxcram.evaluate.settings.MODES`.
        cram: id of the sample whose memory is read first; None if no text was crammed for it.
        tokens: int32 [n], the text after the memory, if there is any; n is 0 in mode full_prefix.
    """

    item: Item
    mode: str
    cram: int | None
    tokens: np.ndarray


class Prompts(NamedTuple):
    """The prompts of items in one mode, and the texts that are to be crammed for them."""

    crams: list[Sample]
    prompts: list[Prompt]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        item: id of the question.
        mode: one of `MODES`.
        label: index of the right letter.
        text: what was generated.
        letter: the first of A to D in the text; None if there is none, and the answer is not valid.
        subject: of the question; None if the task has no subjects.
    """

    item: int
    mode: str
    label: int
    text: str
    letter: str | None
    subject: str | None = None

    @classmethod
    def read(cls, prompt: Prompt, text: str) -> Answer:
        """The answer in a generated text; "" if nothing was generated."""
        found, item = _LETTER.search(text), prompt.item
        return cls(item.id, prompt.mode, item.label, text, found[0] if found else None, item.subject)

    @property
    def valid(self) -> bool:
        """Whether the text has a letter."""
        return self.letter is not None

    @property
    def right(self) -> bool:
        """Whether it is the right one."""
        return self.letter == LETTERS[self.label]


def encode_prompts(
    items: Iterable[Item],
    mode: str,
    tokenizer: Tokenizer,
    *,
    max_positions: int,
    num_memory: int = 1,
    bos: bool | None = None,
) -> Prompts:
    """What is to be crammed for items, and what stays text.

    Where a text follows what is crammed, both are encoded together and split by count (`encode_pair`), so the
    white space between them stays text; and BOS, if it is added, belongs to what is crammed.

    Args:
        items: with shots, from `load_items`.
        mode: one of `MODES`.
        tokenizer: of the model.
        max_positions: of the model.
        num_memory: K; nothing is read before the text in mode none.
        bos: as in `Tokenizer.encode`.

    Returns:
        The samples to cram, one for all items with the same shots (few_shot), one for each item
        (full_prefix), or none; the id of a sample is `Item.shots_id` or the item's, whichever other items
        there are. And a prompt for each item, in their order.

    Raises:
        UserError: the mode is unknown, an item has no shots, a text is too long for the model, or the
            tokenizer fails.
    """
    if mode not in MODES:
        raise UserError(f"generative={mode}: no such mode; choose one of {', '.join(MODES)}")
    crams: dict[str, Sample] = {}
    prompts = []
    for item in items:
        if not item.shots.strip():
            raise UserError(
                f"item {item.id}: it has no shots, which generative={mode} reads; give num_shots of at least "
                "1, and shots_data if data is given"
            )
        crammed = {"few_shot": item.shots.rstrip(), "full_prefix": item.prompt}.get(mode)
        if crammed is not None and crammed not in crams:
            target = np.asarray(tokenizer.encode(crammed, bos), np.int32)
            _require_room(item, len(target), num_memory, max_positions)
            of_shots = item.shots_id if mode == "few_shot" else None
            crams[crammed] = Sample(item.id if of_shots is None else of_shots, crammed, target)
        tokens, start = encode_pair(tokenizer, item.shots, item.context, bos)
        start = {"full_prefix": len(tokens), BASE_MODE: 0}.get(mode, start)
        text = np.asarray(tokens[start:], np.int32)
        memory = 0 if mode == BASE_MODE else num_memory
        _require_room(item, len(text) + NEW_TOKENS, memory, max_positions)
        prompts.append(Prompt(item, mode, None if crammed is None else crams[crammed].sample_id, text))
    return Prompts(list(crams.values()), prompts)


def _require_room(item: Item, num_tokens: int, num_memory: int, max_positions: int) -> None:
    needed = num_memory + num_tokens - 1
    if needed > max_positions:
        raise UserError(
            f"item {item.id}: {num_tokens} tokens after {num_memory} memory embeddings need {needed} "
            f"positions, the model has {max_positions}; lower num_shots, or choose other samples"
        )


def random_memory(model: Decoder, prompts: Sequence[Prompt], num_memory: int, seed: int = 0) -> np.ndarray:
    """Memory of mode random, fp32 [I, K, D]: normal, with the standard deviation of the token embeddings.

    Every item has its own, which depends on its id and on the seed alone.
    """
    jobs = [Job(prompt.item.id, 0.0, seed) for prompt in prompts]
    return initial_embeddings(model, jobs, CramSettings(init="normal", num_memory=num_memory))


def generate(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    mem_IxKxD: np.ndarray | None = None,
    *,
    new_tokens: int = NEW_TOKENS,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Answer]:
    """Answers to prompts, generated greedily, all of them batched; one program for each padded shape.

    Args:
        model: the frozen decoder.
        tokenizer: of the model.
        prompts: from `encode_prompts`.
        mem_IxKxD: the memory of each, fp32; None in mode none.
        new_tokens: tokens to generate; an end token ends the text before.
        batch_tokens: tokens of a pass, padding included.

    Returns:
        The answers in the order of the prompts, which changes none of them.

    Raises:
        UserError: a text has ids that the model does not, or a logit is not finite.
        ValueError: memory is missing, or there is memory for mode none.
    """
    for prompt in prompts:
        if (prompt.mode == BASE_MODE) != (mem_IxKxD is None):
            raise ValueError(f"mode {prompt.mode} {'with' if prompt.mode == BASE_MODE else 'without'} memory")
        model.config.require_ids(prompt.tokens, f"item {prompt.item.id}")
    texts = [prompt.tokens for prompt in prompts]
    found = generated(model, texts, new_tokens, mem_IxKxD, batch_tokens=batch_tokens)
    return [
        Answer.read(
            prompt,
            tokenizer.decode(until_end(model, new, f"item {prompt.item.id} in mode {prompt.mode}")),
        )
        for prompt, new in zip(prompts, found, strict=True)
    ]
