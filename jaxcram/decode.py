"""Text back from embeddings: greedy decoding in the shapes of training, and the ordinary cached one.

Under teacher forcing a prefix is exact when every argmax is right. Greedy decoding repeats those argmaxes
only if it rounds as the measuring pass did, so `exact` decodes in the same padded shape: from any draft, it
repeats one full forward pass that replaces every token by its argmax until nothing changes (Jacobi
iteration; by causality each pass fixes at least the first wrong token, and the fixed point is the greedy
sequence). `cached` is the decoder everybody uses; its one-token shapes round differently, and
solutions without a margin lose tokens to it ([P], section on greedy decoding). `verify` decodes any number of
embeddings in both ways and under teacher forcing, batched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcram.devices import mesh
from jaxcram.forward import Array, embedded, predict, token_margins
from jaxcram.models import head
from jaxcram.models.cache import Cache
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import pad_tokens

Pick = Callable[[jax.Array, jax.Array], jax.Array]


def _argmax(model: Decoder, hidden_BxTxD: jax.Array) -> jax.Array:
    return head.sweep(lambda logits: jnp.argmax(logits, axis=-1), model.head, hidden_BxTxD).astype(jnp.int32)


def teacher_forced(model: Decoder, mem_SxKxD: np.ndarray, tokens_SxT: np.ndarray) -> jax.Array:
    """Argmax of every position given the memory and the tokens before it, int32 [S, T].

    S is a multiple of the mesh's places, each of which takes its share of the rows.
    """
    return _teacher_forced(model, mem_SxKxD, tokens_SxT, mesh.of(model))


@jax.jit(static_argnames="devices")
def _teacher_forced(model: Decoder, mem_SxKxD: jax.Array, tokens_SxT: jax.Array, devices: Mesh) -> jax.Array:
    def share(model: Decoder, mem_BxKxD: jax.Array, tokens_BxT: jax.Array) -> jax.Array:
        return _argmax(model, predict(model, mem_BxKxD, tokens_BxT))

    return mesh.spread(share, devices)(model, mem_SxKxD, tokens_SxT).unpack()


def cached(model: Decoder, mem_SxKxD: np.ndarray, length: int) -> jax.Array:
    """Greedy tokens from memory embeddings with a key-value cache, int32 [S, length]; S as above."""
    return _cached(model, mem_SxKxD, length, mesh.of(model))


@jax.jit(static_argnames=("length", "devices"))
def _cached(model: Decoder, mem_SxKxD: jax.Array, length: int, devices: Mesh) -> jax.Array:
    def share(model: Decoder, mem_BxKxD: jax.Array) -> jax.Array:
        cache = model.init_cache(mem_BxKxD.shape[0], mem_BxKxD.shape[1] + length - 1)
        no_keys = jnp.zeros(length)
        return _extend(
            model, mem_BxKxD.astype(model.dtype), cache, no_keys, lambda hidden, _: _argmax(model, hidden)
        )

    return mesh.spread(share, devices)(model, mem_SxKxD).unpack()


def continued(
    model: Decoder,
    mem_SxKxD: Array | None,
    tokens_SxT: Array,
    lengths_S: Array,
    length: int,
    knockout_SxL: Array | None = None,
) -> jax.Array:
    """Greedy tokens after memory and texts of different lengths, with a key-value cache.

    Args:
        model: the frozen decoder.
        mem_SxKxD: memory embeddings, fp32; None for the texts alone.
        tokens_SxT: the texts, padded at their ends; S as above.
        lengths_S: tokens of each text, padding excluded; 0 only after a memory.
        length: tokens to add.
        knockout_SxL: where True, text and new tokens do not see the memory at that layer, bool.

    Returns:
        int32 [S, length]; -1 where a logit was not finite, and nothing that follows means anything.
    """
    per_lane = mem_SxKxD, tokens_SxT, lengths_S, knockout_SxL
    return _continued(model, per_lane, length, mesh.of(model))


@jax.jit(static_argnames=("length", "devices"))
def _continued(model: Decoder, per_lane: tuple[Array | None, ...], length: int, devices: Mesh) -> jax.Array:
    def share(
        model: Decoder,
        mem_BxKxD: jax.Array | None,
        tokens_BxT: jax.Array,
        lengths_B: jax.Array,
        knockout_BxL: jax.Array | None,
    ) -> jax.Array:
        inputs_BxNxD = embedded(model, mem_BxKxD, tokens_BxT)
        batch, width = inputs_BxNxD.shape[:2]
        begin_B = tokens_BxT.shape[1] - lengths_B  # the padding goes to the front, so that all end together
        inputs_BxNxD = jax.vmap(lambda x_NxD, shift: jnp.roll(x_NxD, shift, axis=0))(inputs_BxNxD, begin_B)
        cache = model.init_cache(batch, width + length - 1, begin_B)
        barred = knockout_BxL, width - tokens_BxT.shape[1]
        no_keys = jnp.zeros(length)
        return _extend(model, inputs_BxNxD, cache, no_keys, lambda hidden, _: pick(model, hidden), barred)

    def pick(model: Decoder, hidden_Bx1xD: jax.Array) -> jax.Array:
        logits_Bx1xV = model.logits(hidden_Bx1xD)
        return _where_finite(logits_Bx1xV, jnp.argmax(logits_Bx1xV, axis=-1))

    return mesh.spread(share, devices)(model, *per_lane).unpack()


def _where_finite(logits_BxTxV: jax.Array, picked_BxT: jax.Array) -> jax.Array:
    """Picked tokens, int32 [B, T]; -1 where a logit is not finite."""
    return jnp.where(jnp.isfinite(logits_BxTxV).all(axis=-1), picked_BxT, -1).astype(jnp.int32)


def exact(model: Decoder, mem_SxKxD: np.ndarray, draft_SxT: np.ndarray) -> tuple[np.ndarray, int]:
    """Greedy tokens from memory embeddings, in the shape of a training pass with S seats of T tokens.

    Args:
        model: the frozen decoder.
        mem_SxKxD: memory embeddings, fp32.
        draft_SxT: any tokens; the better the draft, the fewer the passes. T is the padded length of the
            bucket in which the embeddings were measured.

    Returns:
        tokens_SxT, int32, and the number of passes, at most T + 1. They do not depend on the draft.
    """
    tokens_SxT, passes = draft_SxT, 0
    while True:
        next_SxT = np.asarray(teacher_forced(model, mem_SxKxD, tokens_SxT))
        passes += 1
        if np.array_equal(next_SxT, tokens_SxT):
            return tokens_SxT, passes
        tokens_SxT = next_SxT


def verify(
    model: Decoder,
    mem_SxKxD: np.ndarray,
    targets: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, int]],
) -> list[dict[str, np.ndarray]]:
    """Decode any number of embeddings, each in the shape in which it was measured.

    Args:
        model: the frozen decoder.
        mem_SxKxD: memory embeddings, fp32.
        targets: the tokens that each is to reproduce, int32 [n], n up to the tokens of its shape.
        shapes: padded tokens of each and lanes per device in the passes that measured it.

    Returns:
        "teacher_forced", "exact" and "cached" tokens of each, int32 [n].
    """
    if not shapes:
        return []
    places = mesh.places(mesh.of(model))
    drafts_SxN = _drafts(model, mem_SxKxD, set(shapes), places)
    results: list[dict[str, np.ndarray]] = [{} for _ in shapes]
    for length, batch in _as_measured(shapes, places):
        mem_BxKxD, draft_BxT = mem_SxKxD[batch], drafts_SxN[batch, :length]
        target_BxT = pad_tokens([targets[i] for i in batch], len(batch), length)
        tokens = {
            "teacher_forced": np.asarray(teacher_forced(model, mem_BxKxD, target_BxT)),
            "exact": exact(model, mem_BxKxD, draft_BxT)[0],
            "cached": draft_BxT,
        }
        for row, i in enumerate(batch):
            results[i] = {name: x_BxT[row, : len(targets[i])] for name, x_BxT in tokens.items()}
    return results


def margins(
    model: Decoder,
    mem_SxKxD: np.ndarray,
    targets: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, int]],
) -> list[np.ndarray]:
    """The logit of every target token minus the largest other one under teacher forcing, fp32 [n] each.

    The arguments are those of `verify`.
    """
    results = [np.empty(0, np.float32)] * len(shapes)
    for length, batch in _as_measured(shapes, mesh.places(mesh.of(model))):
        target_BxT = pad_tokens([targets[i] for i in batch], len(batch), length)
        margins_BxT = np.asarray(token_margins(model, mem_SxKxD[batch], target_BxT))
        for row, i in enumerate(batch):
            results[i] = margins_BxT[row, : len(targets[i])]
    return results


def _as_measured(shapes: Sequence[tuple[int, int]], places: int) -> Iterator[tuple[int, list[int]]]:
    """Batches of the shapes in which passes measured their members: padded tokens, and numbers of members."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        groups[shape].append(i)
    for (length, lanes), members in groups.items():
        for batch in _batches(members, lanes * places):
            yield length, batch


def _drafts(
    model: Decoder, mem_SxKxD: np.ndarray, shapes: Iterable[tuple[int, int]], places: int
) -> np.ndarray:
    """What the ordinary decoder makes of every embedding, int32 [S, N]; as long as the longest shape.

    It needs no particular shape, so all share one program, with no more tokens than the measuring passes had.
    """
    length = max(tokens for tokens, _ in shapes)
    rows = max(1, max(tokens * lanes for tokens, lanes in shapes) // length) * places
    drafts_SxN = np.empty((len(mem_SxKxD), length), np.int32)
    for batch in _batches(list(range(len(mem_SxKxD))), rows):
        drafts_SxN[batch] = cached(model, mem_SxKxD[batch], length)
    return drafts_SxN


def _batches(members: list[int], rows: int) -> Iterator[list[int]]:
    """Members, `rows` at a time; the last batch is filled up with its last member.

    So no row holds anything that takes exact decoding longer than the members do.
    """
    for start in range(0, len(members), rows):
        batch = members[start : start + rows]
        yield batch + batch[-1:] * (rows - len(batch))


def continue_prompt(
    model: Decoder, prompt_BxT: np.ndarray, length: int, key: jax.Array, temperature: float = 0.0
) -> jax.Array:
    """Tokens after a prompt, with a key-value cache: greedy, or sampled where `temperature` is above 0.

    Args:
        model: the decoder.
        prompt_BxT: token ids.
        length: tokens to add.
        key: of the sampling.
        temperature: divides the logits; 0 takes the argmax.

    Returns:
        int32 [B, length]; -1 where a logit was not finite, and nothing that follows means anything.

    Raises:
        UserError: the prompt has ids that the model does not.
    """
    model.config.require_ids(prompt_BxT, "the prompt")
    return _continue_prompt(model, prompt_BxT, length, key, temperature)


@jax.jit(static_argnames=("length", "temperature"))
def _continue_prompt(
    model: Decoder, prompt_BxT: jax.Array, length: int, key: jax.Array, temperature: float
) -> jax.Array:
    def pick(hidden_Bx1xD: jax.Array, key: jax.Array) -> jax.Array:
        logits_Bx1xV = model.logits(hidden_Bx1xD)
        if temperature == 0.0:
            picked_Bx1 = jnp.argmax(logits_Bx1xV, axis=-1)
        else:
            picked_Bx1 = jax.random.categorical(key, logits_Bx1xV / temperature, mode="low")
        return _where_finite(logits_Bx1xV, picked_Bx1)

    cache = model.init_cache(prompt_BxT.shape[0], prompt_BxT.shape[1] + length - 1)
    return _extend(model, model.embed(prompt_BxT), cache, jax.random.split(key, length), pick)


def _extend(
    model: Decoder,
    inputs_BxTxD: jax.Array,
    cache: Cache,
    keys: jax.Array,
    pick: Pick,
    barred: tuple[jax.Array | None, int] = (None, 0),
) -> jax.Array:
    """As many tokens as there are keys, each picked from the last hidden state before it.

    `barred` is a knockout [B, L], and the number of first inputs that it hides from those after them.
    """

    def step(carry: tuple[jax.Array, Cache], key: jax.Array) -> tuple[tuple[jax.Array, Cache], jax.Array]:
        token_Bx1, cache = carry
        hidden, cache = model.extend(model.embed(token_Bx1), cache, *barred)
        next_Bx1 = pick(hidden, key)
        return (next_Bx1, cache), next_Bx1[:, 0]

    hidden, cache = model.extend(inputs_BxTxD, cache, *barred)
    first_Bx1 = pick(hidden[:, -1:], keys[0])
    _, rest_TxB = jax.lax.scan(step, (first_Bx1, cache), keys[1:])
    return jnp.concatenate([first_Bx1, rest_TxB.T], axis=1)
