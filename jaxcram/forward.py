"""Where memory, given tokens, knockout and text meet the decoder: the one owner of that offset.

The decoder reads `[memory K, given P, target without its last token]`; the hidden state at position
K + P - 1 + i predicts target token i. So token 0 is predicted from the memory and the given tokens alone, and
where there is neither, nothing predicts it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcram.devices import mesh
from jaxcram.models import head
from jaxcram.models.decoder import Decoder, Knockout, OwnRowKnockout

Array = jax.Array | np.ndarray


def predict(
    model: Decoder,
    mem_BxKxD: jax.Array | None,
    tokens_BxT: jax.Array,
    *,
    given_BxP: jax.Array | None = None,
    knockout_BxL: Knockout | None = None,
    remat: bool = False,
) -> jax.Array:
    """Hidden states that predict the target under teacher forcing.

    Args:
        model: the frozen decoder.
        mem_BxKxD: memory embeddings, fp32, cast to the decoder's dtype here; None for the text alone.
        tokens_BxT: target tokens; the last column is predicted and not read.
        given_BxP: visible tokens between memory and target, which are read and not predicted.
        knockout_BxL: where True, given tokens and target do not see the memory at that layer of that lane. An
            `OwnRowKnockout` also lets the memory see the last token, as all others.
        remat: recompute each layer in the backward pass instead of keeping its activations.

    Returns:
        hidden_BxTxD: entry i predicts token i. With neither memory nor given tokens [B, T - 1, D]: entry i
        predicts token i + 1.
    """
    text_BxN = tokens_BxT if given_BxP is None else jnp.concatenate([given_BxP, tokens_BxT], axis=1)
    reads_last = isinstance(knockout_BxL, OwnRowKnockout)
    inputs_BxNxD = embedded(model, mem_BxKxD, text_BxN if reads_last else text_BxN[:, :-1])
    num_memory = 0 if mem_BxKxD is None else mem_BxKxD.shape[1]
    num_before = num_memory + text_BxN.shape[1] - tokens_BxT.shape[1]
    hidden = model(inputs_BxNxD, num_memory=num_memory, knockout_BxL=knockout_BxL, remat=remat)
    return hidden[:, max(num_before - 1, 0) : -1 if reads_last else None]


def embedded(model: Decoder, mem_BxKxD: jax.Array | None, tokens_BxN: jax.Array) -> jax.Array:
    """The memory, if any, and embedded tokens [B, K + N, D]."""
    inputs_BxNxD = model.embed(tokens_BxN)
    if mem_BxKxD is None:
        return inputs_BxNxD
    return jnp.concatenate([mem_BxKxD.astype(inputs_BxNxD.dtype), inputs_BxNxD], axis=1)


def token_nll(
    model: Decoder,
    mem_SxKxD: Array | None,
    tokens_SxT: Array,
    *,
    given_SxP: Array | None = None,
    knockout_SxL: Knockout | None = None,
) -> jax.Array:
    """-log p of every target token under teacher forcing, nats, fp32 [S, T].

    The arguments are those of `predict`; S is a multiple of the mesh's places, each of which takes its share
    of the rows. With neither memory nor given tokens nothing predicts token 0, which has 0.
    """
    per_lane = mem_SxKxD, tokens_SxT, given_SxP, knockout_SxL
    return _compared(model, per_lane, mesh.of(model), ("nll",))[0]


class Fit(NamedTuple):
    """How a model predicts the tokens of a text.

    Attributes:
        nll: -log p of every token, in nats, fp32; 0 where nothing predicts it.
        correct: whether its logit is greater than all others (a tie counts as wrong), bool; False where
            nothing predicts it.
    """

    nll: Any
    correct: Any


def token_fits(model: Decoder, mem_SxKxD: Array | None, tokens_SxT: Array) -> Fit:
    """`token_nll` and, from the same logits, whether each token is the first of all: [S, T] each."""
    return Fit(*_compared(model, (mem_SxKxD, tokens_SxT, None, None), mesh.of(model), Fit._fields))


def tokens_right(model: Decoder, mem_SxKxD: Array, tokens_SxT: Array) -> jax.Array:
    """The `correct` of `token_fits` alone: whether each token is the first of all, bool [S, T]."""
    return _compared(model, (mem_SxKxD, tokens_SxT, None, None), mesh.of(model), ("correct",))[0]


def token_margins(model: Decoder, mem_SxKxD: Array, tokens_SxT: Array) -> jax.Array:
    """The logit of every target token minus the largest other one, fp32 [S, T]; arguments as `token_nll`."""
    true_SxT, other_SxT = _compared(
        model, (mem_SxKxD, tokens_SxT, None, None), mesh.of(model), ("true", "other")
    )
    return true_SxT - other_SxT


@jax.jit(static_argnames=("devices", "fields"))
def _compared(
    model: Decoder,
    per_lane: tuple[Array | Knockout | None, ...],
    devices: Mesh,
    fields: tuple[str, ...],
) -> list[jax.Array]:
    """The fields of `head.compare`, [S, T] each, 0 where nothing predicts the token."""

    def share(
        model: Decoder,
        mem_BxKxD: jax.Array | None,
        tokens_BxT: jax.Array,
        given_BxP: jax.Array | None,
        knockout_BxL: Knockout | None,
    ) -> list[jax.Array]:
        hidden = predict(model, mem_BxKxD, tokens_BxT, given_BxP=given_BxP, knockout_BxL=knockout_BxL)
        return _comparison(model, hidden, tokens_BxT, fields)

    return mesh.spread(share, devices)(model, *per_lane).unpack()


def _comparison(
    model: Decoder, hidden: jax.Array, tokens_BxT: jax.Array, fields: tuple[str, ...]
) -> list[jax.Array]:
    unpredicted = tokens_BxT.shape[1] - hidden.shape[1]

    def compared(logits_RxV: jax.Array, targets_R: jax.Array) -> list[jax.Array]:
        comparison = head.compare(logits_RxV, targets_R)
        return [getattr(comparison, field) for field in fields]

    found = head.sweep(compared, model.head, hidden, tokens_BxT[:, unpredicted:])
    return [jnp.pad(x_BxN, ((0, 0), (unpredicted, 0))) for x_BxN in found]


class Conditions(NamedTuple):
    """Knockouts of C conditions, and what they share: conditions alike in their first layers run them once.

    Attributes:
        layers_CxL: where no lane's text sees the memory, bool.
        trunks_RxL: conditions of which the residual stream before every layer is kept.
        trunk_C: the trunk from which each condition goes on.
        first_C: the layer at which it does so: before it they are alike.
    """

    layers_CxL: Any
    trunks_RxL: Any
    trunk_C: Any
    first_C: Any

    @classmethod
    def of(cls, layers_CxL: np.ndarray) -> Conditions:
        """Conditions that go on from none barred, from all barred, from both or from neither: the least work.

        One condition, or two, have nothing to share; the three protocols run about half of their layers.
        """
        num_conditions, num_layers = layers_CxL.shape

        def made(barred: tuple[bool, ...]) -> Conditions:
            trunks_RxL = np.repeat(np.array(barred, bool)[:, None], num_layers, axis=1)
            if not barred:
                none = np.zeros(num_conditions, np.int32)
                return cls(layers_CxL, trunks_RxL, none, none)
            differs_CxRxL = layers_CxL[:, None] != trunks_RxL
            first_CxR = np.where(differs_CxRxL.any(-1), differs_CxRxL.argmax(-1), num_layers)
            trunk_C, first_C = first_CxR.argmax(-1), first_CxR.max(-1)
            return cls(layers_CxL, trunks_RxL, trunk_C.astype(np.int32), first_C.astype(np.int32))

        def saved(one: Conditions) -> int:
            return int(one.first_C.sum()) - one.trunks_RxL.size

        return max(map(made, ((), (False,), (True,), (False, True))), key=saved)


def token_fits_under(
    model: Decoder,
    mem_SxKxD: Array,
    tokens_SxT: Array,
    conditions: Conditions,
    own_rows_S: Array | None = None,
) -> Fit:
    """`token_fits` of every lane under every condition, [S, C, T] each.

    The layers are data: all conditions of one count and number of trunks are one program.

    Args:
        model, mem_SxKxD, tokens_SxT: as for `token_nll`.
        conditions: the knockouts.
        own_rows_S: bar the memory from itself too, as `OwnRowKnockout` does: its `length_B`.
    """
    per_lane = mem_SxKxD, tokens_SxT, own_rows_S
    return Fit(*_compared_under(model, conditions, per_lane, mesh.of(model)))


@jax.jit(static_argnames="devices")
def _compared_under(
    model: Decoder, conditions: Conditions, per_lane: tuple[Array | None, ...], devices: Mesh
) -> list[jax.Array]:
    def share(
        shared: tuple[Decoder, Conditions],
        mem_BxKxD: jax.Array,
        tokens_BxT: jax.Array,
        own_rows_B: jax.Array | None,
    ) -> list[jax.Array]:
        (model, conditions), num_memory = shared, mem_BxKxD.shape[1]
        last = None if own_rows_B is None else -1  # whether the last token is read
        inputs_BxNxD = embedded(model, mem_BxKxD, tokens_BxT if last else tokens_BxT[:, :-1])

        def barred(layers_L: jax.Array) -> Knockout:
            layers_BxL = jnp.broadcast_to(layers_L, (len(tokens_BxT), *layers_L.shape))
            return layers_BxL if own_rows_B is None else OwnRowKnockout(layers_BxL, own_rows_B)

        trunks = [
            model.states(inputs_BxNxD, num_memory, barred(trunk_L)) for trunk_L in conditions.trunks_RxL
        ]
        states = jnp.stack(trunks) if trunks else inputs_BxNxD[None, None]

        def under(condition: tuple[jax.Array, ...]) -> list[jax.Array]:
            layers_L, trunk, first = condition
            hidden = model.resumed(states[trunk, first], first, num_memory, barred(layers_L))
            return _comparison(model, hidden[:, num_memory - 1 : last], tokens_BxT, Fit._fields)

        found = jax.lax.map(under, (conditions.layers_CxL, conditions.trunk_C, conditions.first_C))
        return [jnp.moveaxis(x_CxBxT, 0, 1) for x_CxBxT in found]

    return mesh.spread(share, devices)((model, conditions), *per_lane).unpack()


def token_logits(
    model: Decoder,
    mem_SxKxD: Array | None,
    tokens_SxT: Array,
    knockout_SxL: Knockout | None = None,
) -> jax.Array:
    """Logits of every target token under teacher forcing, fp32 [S, T, V], all in device memory at once.

    The arguments are those of `token_nll`. Without memory nothing predicts token 0, whose logits are NaN.
    """
    return _token_logits(model, (mem_SxKxD, tokens_SxT, knockout_SxL), mesh.of(model))


@jax.jit(static_argnames="devices")
def _token_logits(model: Decoder, per_lane: tuple[Array | Knockout | None, ...], devices: Mesh) -> jax.Array:
    def share(
        model: Decoder, mem_BxKxD: jax.Array | None, tokens_BxT: jax.Array, knockout_BxL: Knockout | None
    ) -> jax.Array:
        logits = model.logits(predict(model, mem_BxKxD, tokens_BxT, knockout_BxL=knockout_BxL))
        unpredicted = tokens_BxT.shape[1] - logits.shape[1]
        return jnp.pad(logits, ((0, 0), (unpredicted, 0), (0, 0)), constant_values=jnp.nan)

    return mesh.spread(share, devices)(model, *per_lane).unpack()


def attention_mass(model: Decoder, mem_SxKxD: Array | None, tokens_SxT: Array, lengths_S: Array) -> jax.Array:
    """How much of its attention the text gives to the memory at each layer, fp32 [S, L], 0 to 1.

    The sum of the weights on the memory, averaged over heads and over the tokens of the text, the last one
    included. The memory's own rows do not count: of one embedding all weight is on itself.

    Args:
        model: the frozen decoder.
        mem_SxKxD: memory embeddings; None measures the weight on the text's first token, which is BOS if the
            tokenizer adds it, averaged over the tokens after it (NaN if there are none).
        tokens_SxT: texts, padded at their ends.
        lengths_S: tokens of each text, padding excluded.
    """
    return _attention_mass(model, (mem_SxKxD, tokens_SxT, lengths_S), mesh.of(model))


@jax.jit(static_argnames="devices")
def _attention_mass(model: Decoder, per_lane: tuple[Array | None, ...], devices: Mesh) -> jax.Array:
    def share(
        model: Decoder, mem_BxKxD: jax.Array | None, tokens_BxT: jax.Array, lengths_B: jax.Array
    ) -> jax.Array:
        inputs = embedded(model, mem_BxKxD, tokens_BxT)
        num_memory = inputs.shape[1] - tokens_BxT.shape[1]
        num_first, query_T = num_memory or 1, jnp.arange(inputs.shape[1])
        counted_BxT = (query_T >= num_first) & (query_T < num_memory + lengths_B[:, None])

        def mass(weights_BxGxRxTxS: jax.Array) -> jax.Array:
            on_first_BxT = weights_BxGxRxTxS[..., :num_first].sum(-1).mean((1, 2))
            return on_first_BxT.mean(1, where=counted_BxT)

        return model.measured(inputs, mass).T

    return mesh.spread(share, devices)(model, *per_lane).unpack()
