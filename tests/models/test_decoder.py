"""What the decoder promises whatever its weights: causality, knockout, the cache, dtypes, use as a pytree."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcram.models.config import DecoderConfig
from jaxcram.models.decoder import FEW_LAYERS, SMALL_LAYER, Decoder
from jaxcram.models.gemma import GemmaConfig
from jaxcram.models.layers import attend, rotary_tables, rotate
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.smollm3 import SmolLM3Config

SIZES = {
    "vocab_size": 30,
    "width": 16,
    "num_layers": 3,
    "mlp_width": 24,
    "max_positions": 32,
    "norm_eps": 1e-5,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_heads=4, num_kv_heads=2, head_size=4, tied_head=True),
    "neox": NeoXConfig(
        **SIZES, num_heads=2, num_kv_heads=2, head_size=8, tied_head=False, parallel_residual=False
    ),
    # Windows shorter than the inputs, two rotary bases, caps.
    "gemma": GemmaConfig(
        **SIZES,
        num_heads=4,
        num_kv_heads=1,
        head_size=8,
        tied_head=True,
        query_pre_attn_scalar=6,
        windows=(4, None, 6),
        rope_theta=100.0,
        rope_local_theta=20.0,
        attention_cap=2.0,
        logit_cap=3.0,
    ),
    # A layer without rotary positions.
    "smollm3": SmolLM3Config(
        **SIZES, num_heads=4, num_kv_heads=2, head_size=4, tied_head=True, rotates=(True, False, True)
    ),
}
LENGTH, NUM_MEMORY = 9, 2

forward = jax.jit(Decoder.__call__, static_argnames=("num_memory", "remat"))
extend = jax.jit(Decoder.extend)


@pytest.fixture(scope="module", params=CONFIGS)
def config(request: pytest.FixtureRequest) -> DecoderConfig:
    return CONFIGS[request.param]


@pytest.fixture(scope="module")
def decoder(config: DecoderConfig) -> Decoder:
    return random_decoder(config, seed=0)


def random_decoder(config: DecoderConfig, seed: int) -> Decoder:
    """Every weight and bias random; from numpy, so that no generator has to be compiled."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        vector = leaf.shape[:-1] in [(), (config.num_layers,)]
        return jnp.asarray(
            rng.normal(size=leaf.shape) * (1.0 if vector else leaf.shape[-1] ** -0.5), leaf.dtype
        )

    return jax.tree.map(draw, jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))


def inputs(batch: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(batch, LENGTH, SIZES["width"])), jnp.float32)


def test_gradients_reach_every_earlier_position_and_no_later_one(decoder: Decoder):
    def projected(decoder, x_TxD):
        return (decoder(x_TxD[None])[0] * jnp.arange(1, 17)).sum(-1)

    jacobian_TxSxD = jax.jit(jax.jacrev(projected, argnums=1))(decoder, inputs(1)[0])
    reach_TxS = np.abs(jacobian_TxSxD).max(-1)
    np.testing.assert_array_equal(reach_TxS > 1e-6, np.tri(LENGTH, dtype=bool))
    np.testing.assert_array_equal(np.triu(reach_TxS, 1), 0)


@jax.jit
def plainly(decoder: Decoder, x_TxD: jax.Array, mask_LxTxT: jax.Array) -> jax.Array:
    """One lane, layer by layer, with the masks written out."""
    config, x_1xTxD = decoder.config, x_TxD[None]
    frequencies_LxR = np.broadcast_to(config.rotary_frequencies(), (3, config.rotary_size // 2))
    for number, frequencies in enumerate(frequencies_LxR):
        tables = rotary_tables(frequencies, jnp.arange(LENGTH))
        block = jax.tree.map(lambda leaf, number=number: leaf[number], decoder.layers)
        query, key, value = block.qkv(x_1xTxD)
        mask, scores = mask_LxTxT[None, None, number], (config.attention_scale, config.attention_cap)
        query, key = rotate(query, tables), rotate(key, tables)
        attended = attend(query, key, value, mask, scale=scores[0], cap=scores[1])
        x_1xTxD = block.finish(x_1xTxD, attended)
    return decoder.final_norm(x_1xTxD)[0]


def causal_masks(config: DecoderConfig) -> np.ndarray:
    """The mask of each layer [L, T, T], written out."""
    masks_LxTxT = np.tile(np.tri(LENGTH, dtype=bool), (SIZES["num_layers"], 1, 1))
    for mask_TxT, window in zip(masks_LxTxT, config.windows, strict=False):
        for query in range(LENGTH if window else 0):
            mask_TxT[query, : max(0, query - window + 1)] = False
    return masks_LxTxT


def test_knockout_masks_the_memory_per_lane_and_layer(decoder: Decoder):
    knockout_BxL = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]], dtype=bool)
    x_BxTxD = inputs(4)
    hidden_BxTxD = forward(decoder, x_BxTxD, num_memory=NUM_MEMORY, knockout_BxL=jnp.array(knockout_BxL))
    for lane, knocked_L in enumerate(knockout_BxL):
        mask_LxTxT = causal_masks(decoder.config)
        mask_LxTxT[knocked_L, NUM_MEMORY:, :NUM_MEMORY] = False
        expected_TxD = plainly(decoder, x_BxTxD[lane], mask_LxTxT)
        np.testing.assert_allclose(hidden_BxTxD[lane], expected_TxD, atol=1e-5)


def test_no_knockout_equals_plain_and_full_knockout_equals_the_text_alone(decoder: Decoder):
    x_BxTxD = inputs(4)
    knockout_BxL = jnp.array([[False], [True], [False], [True]]).repeat(SIZES["num_layers"], axis=1)
    hidden_BxTxD = forward(decoder, x_BxTxD, num_memory=NUM_MEMORY, knockout_BxL=knockout_BxL)
    plain_BxTxD = forward(decoder, x_BxTxD)
    without_BxTxD = forward(decoder, x_BxTxD[:, NUM_MEMORY:])
    np.testing.assert_allclose(hidden_BxTxD[0], plain_BxTxD[0], atol=1e-5)
    np.testing.assert_allclose(hidden_BxTxD[1, NUM_MEMORY:], without_BxTxD[1], atol=1e-4)
    np.testing.assert_allclose(hidden_BxTxD[1, :NUM_MEMORY], plain_BxTxD[1, :NUM_MEMORY], atol=1e-5)
    assert np.abs(plain_BxTxD[1, NUM_MEMORY:] - without_BxTxD[1]).max() > 0.1  # the memory does matter here


def test_cached_decoding_equals_the_full_forward(decoder: Decoder):
    x_BxTxD = inputs(4)
    cache = decoder.init_cache(4, LENGTH + 3)
    pieces = []
    for start, stop in [(0, 4), (4, 5), (5, LENGTH)]:
        hidden, cache = extend(decoder, x_BxTxD[:, start:stop], cache)
        pieces.append(hidden)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), forward(decoder, x_BxTxD), atol=1e-4)
    assert cache.position == LENGTH


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient(decoder: Decoder):
    def loss(decoder, x_BxTxD, remat):
        return jnp.sum(decoder(x_BxTxD, remat=remat)[..., 0] ** 2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    stored, recomputed = (gradient(decoder, inputs(2), remat) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stored, recomputed)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(stored[0].layers))


@pytest.mark.slow
def test_unstacked_layers_give_the_same_results_without_a_scan(decoder: Decoder):
    unstacked, x_BxTxD = decoder.unstacked(), inputs(4)
    knockout_BxL = jnp.array([[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]], bool)

    @jax.jit
    def everything(decoder: Decoder, x_BxTxD: jax.Array) -> tuple:
        def knocked(x_BxTxD: jax.Array) -> jax.Array:
            return jnp.sum(decoder(x_BxTxD, num_memory=NUM_MEMORY, knockout_BxL=knockout_BxL)[..., 0] ** 2)

        cached, _ = decoder.extend(x_BxTxD, decoder.init_cache(4, LENGTH))
        return decoder(x_BxTxD), cached, jax.value_and_grad(knocked)(x_BxTxD)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        everything(unstacked, x_BxTxD),
        everything(decoder, x_BxTxD),
    )
    scans = ["scan[" in str(jax.make_jaxpr(everything)(model, x_BxTxD)) for model in (decoder, unstacked)]
    assert scans == [True, False]


@pytest.mark.slow
@pytest.mark.optimised
def test_remat_saves_device_memory_with_unstacked_layers():
    config = dataclasses.replace(CONFIGS["llama"], width=64, mlp_width=512, num_layers=6)
    unstacked, x_BxTxD = random_decoder(config, seed=0).unstacked(), jnp.ones((4, 128, 64))

    def compiled(remat: bool) -> Any:
        gradient = jax.jit(jax.grad(lambda x, decoder: jnp.sum(decoder(x, remat=remat) ** 2)))
        return gradient.lower(x_BxTxD, unstacked).compile()

    frugal, quick = compiled(True), compiled(False)
    assert frugal.memory_analysis().temp_size_in_bytes < quick.memory_analysis().temp_size_in_bytes / 2
    np.testing.assert_allclose(frugal(x_BxTxD, unstacked), quick(x_BxTxD, unstacked), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_only_few_small_layers_on_cpu_are_unstacked(monkeypatch):
    def decoder(**changes: int) -> Decoder:
        return Decoder(dataclasses.replace(CONFIGS["llama"], **changes), rngs=nnx.Rngs(0))

    shallow = decoder(num_layers=FEW_LAYERS)
    assert shallow.for_backend().is_unstacked
    assert not decoder(num_layers=FEW_LAYERS + 1).for_backend().is_unstacked
    assert not decoder(num_layers=1, mlp_width=SMALL_LAYER // 48).for_backend().is_unstacked
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not shallow.for_backend().is_unstacked


def test_bfloat16_is_kept_throughout_and_follows_fp32(config: DecoderConfig):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_decoder(config, seed=0))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), narrow)
    tokens_BxT = jnp.arange(2 * LENGTH).reshape(2, LENGTH)
    assert narrow.embed(tokens_BxT).dtype == jnp.bfloat16
    hidden_BxTxD = forward(narrow, inputs(4))
    assert hidden_BxTxD.dtype == jnp.bfloat16
    assert narrow.logits(hidden_BxTxD).dtype == jnp.float32
    assert jax.tree.leaves(narrow.init_cache(1, 4))[0].dtype == jnp.bfloat16
    expected = forward(wide, inputs(4).astype(jnp.bfloat16).astype(jnp.float32))
    error = np.linalg.norm(hidden_BxTxD.astype(jnp.float32) - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.02  # one rounding to bf16 is 0.002


def test_the_head_is_the_embedding_only_if_tied(decoder: Decoder):
    same = np.array_equal(decoder.head.weight, decoder.embedding_VxD[...])
    assert same == decoder.config.tied_head


def test_logits_are_the_heads_products_capped_where_the_family_does_so(decoder: Decoder):
    hidden_D = inputs(1)[0, 0]
    logits_V, cap = decoder.head.weight @ hidden_D, decoder.config.logit_cap
    expected_V = logits_V if cap is None else cap * np.tanh(logits_V / cap)
    np.testing.assert_allclose(decoder.logits(hidden_D), expected_V, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_token_embeddings_are_scaled_by_a_factor_rounded_to_the_dtype(dtype):
    config = dataclasses.replace(CONFIGS["gemma"], width=5)
    decoder = Decoder(config, dtype=dtype, rngs=nnx.Rngs(0))
    expected_VxD = decoder.embedding_VxD[...] * jnp.asarray(2.236068, dtype)
    np.testing.assert_array_equal(decoder.embed(jnp.arange(SIZES["vocab_size"])), expected_VxD)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_frequencies_of_0_rotate_nothing_to_the_bit(dtype):
    tables = rotary_tables(np.zeros(8, np.float32), jnp.arange(LENGTH))
    x_BxTxHxC = inputs(2).astype(dtype)[:, :, None]
    np.testing.assert_array_equal(rotate(x_BxTxHxC, tables), x_BxTxHxC)


@pytest.mark.parametrize(("windows", "masks"), [((), 0), ((LENGTH, None, None), 0), ((8, None, None), 1)])
def test_windows_that_hold_every_key_need_no_mask_array(windows, masks):
    """A mask over lanes and heads, of which the causal path has none but the triangle."""
    decoder = random_decoder(dataclasses.replace(CONFIGS["llama"], windows=windows), seed=0)
    program = str(jax.make_jaxpr(Decoder.__call__)(decoder, inputs(1)))
    assert program.count("lt ") == masks
    hidden = forward(random_decoder(CONFIGS["llama"], seed=0), inputs(1))
    assert np.array_equal(forward(decoder, inputs(1)), hidden) == (not masks)


def test_a_new_decoder_has_distinct_layers_and_the_requested_dtype():
    decoder = Decoder(CONFIGS["llama"], dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    first, second = decoder.layers.out.weight[0], decoder.layers.out.weight[1]
    assert np.abs(first - second).max() > 0.1
    assert {leaf.dtype for leaf in jax.tree.leaves(decoder)} == {jnp.dtype(jnp.bfloat16)}


def test_weights_are_arguments_and_one_trace_serves_all_of_them(config: DecoderConfig):
    traces = []

    @jax.jit
    def run(decoder, x_BxTxD):
        traces.append(decoder)
        return decoder(x_BxTxD)

    first, second = (random_decoder(config, seed) for seed in (0, 1))
    assert np.abs(run(first, inputs(1)) - run(second, inputs(1))).max() > 0.1
    assert len(traces) == 1
    constants = jax.make_jaxpr(Decoder.__call__)(first, inputs(1)).consts
    # The frequencies of the rotary tables, and of each layer its table and its window.
    assert sum(map(np.size, constants)) <= config.head_size + 2 * config.num_layers


def test_the_profile_names_embedding_attention_and_mlp(decoder: Decoder):
    lowered = jax.jit(lambda decoder, tokens: decoder(decoder.embed(tokens))).lower(
        decoder, jnp.zeros((1, 3), int)
    )
    locations = lowered.as_text(debug_info=True)
    scopes = set(re.findall(r'["/](embed|attention|mlp)/', locations))
    assert scopes == {"embed", "attention", "mlp"}
