"""What a model says after a text: its continuation, and its logits after an embedding."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from jaxcram import decode as decoding
from jaxcram.devices import configuration, mesh
from jaxcram.errors import UserError
from jaxcram.evaluate.knockout import barred
from jaxcram.evaluate.memory import memory_of
from jaxcram.forward import token_logits
from jaxcram.loading import Model


@configuration.pinned()
def generate(
    model: Model, prompt: str, *, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
) -> str:
    """Continue a prompt: the quick check that a ported model works.

    Args:
        model: a loaded model.
        prompt: the text to continue; BOS is added as the tokenizer says.
        max_new_tokens: tokens to add; generation ends earlier at an end token, which generation_config.json
            names, or, where there is none, config.json.
        temperature: 0 is greedy, else samples from the softmax of logits / temperature.
        seed: of the sampling.

    Raises:
        UserError: an empty prompt, a value out of range, more tokens than the model has positions, tokens
            that it does not have, or logits that are not finite.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens {max_new_tokens} must be at least 1")
    if not temperature >= 0:
        raise UserError(f"temperature {temperature} must be 0 (greedy) or greater")
    if not isinstance(prompt, str):
        raise UserError(f"prompt is of type {type(prompt).__name__}: give a string")
    ids = model.tokenizer.encode(prompt)
    if not ids:
        raise UserError("prompt '' has no tokens: give at least one word")
    room = model.decoder.config.max_positions
    if len(ids) + max_new_tokens > room:
        raise UserError(
            f"prompt of {len(ids)} tokens and max_new_tokens {max_new_tokens} exceed the model's {room} "
            "positions: shorten the prompt or lower max_new_tokens"
        )
    prompt_1xT = np.asarray([ids], np.int32)
    new_1xT = decoding.continue_prompt(
        model.decoder, prompt_1xT, max_new_tokens, configuration.key(seed), temperature
    )
    new = np.asarray(new_1xT)[0].tolist()
    ends = [i for i, token in enumerate(new) if token in model.decoder.config.eos_token_ids]
    new = new[: ends[0] + 1 if ends else None]  # with the end token, which is not always a special one
    if -1 in new:
        raise UserError(
            f"model {model.name}: its logits at position {len(ids) + new.index(-1) - 1} are not finite, "
            f"though its weights are; it is damaged, or overflows in {np.dtype(model.decoder.dtype)}"
        )
    return model.tokenizer.decode(ids + new)


@configuration.pinned()
def logits(
    model: Model,
    embedding: npt.ArrayLike | None,
    text: str,
    knockout: str | Iterable[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Teacher-forced logits of a text after a crammed embedding.

        base, crammed = api.logits(model, None, text), api.logits(model, embedding, text)
        knocked = api.logits(model, embedding, text, knockout="0-3,7")

    Args:
        model: a loaded model.
        embedding: the memory [K, D], or [D] of one embedding; None is the text alone.
        text: encoded as the tokenizer says, with BOS if it adds it, as texts are that are crammed.
        knockout: the layers at which the text does not see the embedding: "0-3,7", "all", their numbers, or
            a boolean array [L]; None is no layer.

    Returns:
        fp32 [T, V]; row i predicts token i of the text's T. Row 0 follows from the embedding alone; without
        one nothing predicts token 0, and its row is NaN.

    Raises:
        UserError: an embedding of another width or that is not finite, an empty text, one too long for the
            model, tokens that it does not have, or a knockout of no layer, of one that the model has not, or
            without an embedding.
    """
    config = model.decoder.config
    mem_KxD = None if embedding is None else memory_of(embedding, config.width)
    if mem_KxD is None and knockout is not None:
        raise UserError("knockout: without an embedding there is nothing to knock out; leave it out")
    layers_L = None if knockout is None else barred(knockout, config.num_layers)
    if not isinstance(text, str):
        raise UserError(f"text is of type {type(text).__name__}: give a string")
    ids = model.tokenizer.encode(text)
    if not ids:
        raise UserError("text '' has no tokens: give at least one word")
    config.require_ids(ids, "the text")
    needed = (0 if mem_KxD is None else len(mem_KxD)) + len(ids) - 1
    if needed > config.max_positions:
        raise UserError(
            f"text of {len(ids)} tokens after the embedding needs {needed} positions, the model has "
            f"{config.max_positions}: shorten the text"
        )

    def rows(array: np.ndarray) -> np.ndarray:
        return np.repeat(array[None], mesh.places(mesh.of(model.decoder)), axis=0)

    tokens_SxT = rows(np.asarray(ids, np.int32))
    mem_SxKxD, layers_SxL = (None if x is None else rows(x) for x in (mem_KxD, layers_L))
    return np.asarray(token_logits(model.decoder, mem_SxKxD, tokens_SxT, layers_SxL))[0]
