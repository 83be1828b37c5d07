"""Causal attention: which kernel runs where, and that each computes the same; the TPU's without a TPU.

Its kernel is interpreted on CPU for its numbers, and lowered for TPU (not run) for what a program holds.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel
from jax.sharding import AbstractMesh, AxisType

from jaxcram.devices import mesh
from jaxcram.models import layers, splash
from jaxcram.models.decoder import Decoder
from jaxcram.models.layers import attend, attention_implementation
from jaxcram.models.llama import LlamaConfig

CONFIG = LlamaConfig(
    vocab_size=30,
    width=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_size=8,
    mlp_width=24,
    max_positions=512,
    tied_head=True,
    norm_eps=1e-5,
)
PADDED = 200  # two blocks of 128, the second in part


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel runs on CPU, in blocks of 128."""
    make = functools.partial(splash_attention_kernel.make_splash_mha, interpret=True)
    monkeypatch.setattr(splash_attention_kernel, "make_splash_mha", make)
    monkeypatch.setattr(splash, "LONGEST_BLOCK", 128)


@pytest.mark.parametrize(
    ("backend", "dtype", "length", "head_size", "expected"),
    [
        ("gpu", jnp.bfloat16, 32, 64, "cudnn"),
        ("gpu", jnp.bfloat16, 33, 64, "cudnn"),
        ("gpu", jnp.bfloat16, 32, 12, "plain"),
        ("gpu", jnp.bfloat16, 32, 256, "plain"),
        ("gpu", jnp.float32, 32, 64, "plain"),
        ("cpu", jnp.bfloat16, 512, 128, "plain"),
        ("tpu", jnp.bfloat16, 128, 128, "splash"),
        ("tpu", jnp.bfloat16, 1569, 80, "splash"),
        ("tpu", jnp.bfloat16, 127, 128, "plain"),
        ("tpu", jnp.float32, 512, 128, "plain"),
    ],
)
def test_fused_attention_is_used_only_where_supported(
    monkeypatch, backend, dtype, length, head_size, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert attention_implementation(jax.ShapeDtypeStruct((1, length, 1, head_size), dtype)) == expected


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_jax_nn(masked: bool):
    query, key, value = (jnp.asarray(np.random.default_rng(n).normal(size=(2, 7, n, 6))) for n in (6, 3, 3))
    mask = jnp.tri(7, k=2, dtype=bool)[None, None] if masked else None
    expected = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=not masked)
    np.testing.assert_allclose(attend(query, key, value, mask), expected, atol=1e-5)


def test_scores_are_scaled_and_capped_before_the_softmax():
    query, key, value = (jnp.asarray(np.random.default_rng(n).normal(size=(1, 5, 1, n))) for n in (6, 6, 6))
    query = 3 * query
    scores_TxS = 0.7 * np.tanh(0.9 * np.asarray(query[0, :, 0] @ key[0, :, 0].T) / 0.7)
    weights_TxS = np.where(np.tri(5, dtype=bool), np.exp(scores_TxS), 0)
    expected_TxC = weights_TxS / weights_TxS.sum(1, keepdims=True) @ np.asarray(value[0, :, 0])
    np.testing.assert_allclose(
        attend(query, key, value, scale=0.9, cap=0.7)[0, :, 0], expected_TxC, atol=1e-5
    )


@pytest.mark.parametrize(
    ("length", "expected"),
    [(128, (1, 128)), (129, (1, 256)), (512, (1, 512)), (513, (2, 384)), (1568, (4, 512)), (3072, (6, 512))],
)
def test_a_length_is_divided_into_few_blocks(length, expected):
    assert splash.blocks(length) == expected


@pytest.mark.usefixtures("interpreted")
def test_the_kernel_and_its_gradients_equal_plain_attention():
    """Two lanes, two queries a key head, more than one block, and padding."""
    heads = [normal(2, PADDED, count, 8)[:, :, :, ::step] for count, step in ((4, 1), (2, 1), (2, -1))]

    @functools.partial(jax.jit, static_argnums=0)
    def both_ways(attention, heads):
        attended, pull = jax.vjp(attention, *heads)
        return attended, *pull(jnp.cos(jnp.arange(attended.size, dtype=jnp.float32)).reshape(attended.shape))

    kernel, plain = (functools.partial(function, scale=0.6) for function in (splash.attend, attend))
    ours, expected = both_ways(kernel, heads), both_ways(plain, heads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, expected)


@pytest.mark.usefixtures("interpreted")
def test_gradients_through_the_layers_equal_plain_attention(monkeypatch):
    """Inside the mesh, the scan over layers and the checkpoint of each."""
    decoder, inputs_BxTxD = Decoder(CONFIG, rngs=nnx.Rngs(0)), normal(2, PADDED, CONFIG.width)

    def gradient(implementation: str):
        def share(decoder, inputs):
            return jax.grad(lambda inputs: jnp.sum(decoder(inputs)[..., 0] ** 2))(inputs)

        monkeypatch.setattr(layers, "attention_implementation", lambda query: implementation)
        return jax.jit(mesh.spread(share, mesh.MeshShape(lanes=1).make()))(decoder, inputs_BxTxD).unpack()

    ours, expected = gradient("splash"), gradient("plain")
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())


def kernels(function, *args) -> int:
    """Kernels in a program for TPU."""
    return (
        jax.jit(function).trace(*args).lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call")
    )


@pytest.mark.parametrize(
    ("dtype", "length", "knockout", "remat", "changes", "expected"),
    [
        # One each way; a second forward only where layers are recomputed: its results are stored otherwise.
        (jnp.bfloat16, 130, False, False, {}, 2),
        (jnp.bfloat16, 130, False, True, {}, 3),
        (jnp.bfloat16, 130, True, False, {}, 0),
        (jnp.bfloat16, 24, False, False, {}, 0),
        (jnp.float32, 130, False, False, {}, 0),
        # Windows that hold the whole text change nothing; shorter ones and caps take the plain path.
        (jnp.bfloat16, 130, False, False, {"windows": (130, None)}, 2),
        (jnp.bfloat16, 130, False, False, {"windows": (129, None)}, 0),
        (jnp.bfloat16, 130, False, False, {"attention_cap": 50.0}, 0),
    ],
)
def test_kernels_of_a_pass_on_tpu(monkeypatch, dtype, length, knockout, remat, changes, expected):
    """In a chunk's surroundings: XLA would refuse to cut a kernel over any axis of the mesh."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    config = dataclasses.replace(CONFIG, **changes)
    decoder = jax.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0)))
    knocked = {"num_memory": 1, "knockout_BxL": jnp.ones((2, CONFIG.num_layers), bool)} if knockout else {}

    def both_ways(decoder, inputs):
        hidden, pull = jax.vjp(lambda inputs: decoder(inputs, remat=remat, **knocked), inputs)
        return pull(hidden)[0]

    spread = mesh.spread(both_ways, mesh.MeshShape(lanes=1).make())
    assert kernels(spread, decoder, jax.ShapeDtypeStruct((2, length, CONFIG.width), dtype)) == expected


@pytest.mark.parametrize(("num_kv_heads", "key_rows"), [(4, 4), (2, 2), (1, 4)])
def test_each_device_attends_with_its_own_lanes_and_heads(num_kv_heads, key_rows):
    """4 lanes over 2 devices, 4 heads over 2; one key head is whole on both, and repeated for 2 queries."""
    shape = AbstractMesh((1, 2, 2), ("lanes", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)
    query, key = (jax.ShapeDtypeStruct((4, 128, heads, 8), jnp.bfloat16) for heads in (4, num_kv_heads))
    with jax.sharding.use_abstract_mesh(shape):
        kernel = functools.partial(splash.attend, scale=1.0)
        traced = jax.jit(functools.partial(mesh.on_each_device, kernel)).trace(query, key, key)
        lowered = traced.lower(lowering_platforms=("tpu",)).as_text()
    (call,) = [line for line in lowered.splitlines() if "tpu_custom_call" in line]
    rows = ", ".join(f"tensor<{count}x128x8xbf16>" for count in (4, key_rows, key_rows))
    assert rows in call


@pytest.mark.parametrize("length", [10, 11])
def test_padding_an_odd_length_for_cudnn_changes_nothing(monkeypatch, length):
    query, key, value = (normal(2, length, heads, 8) for heads in (4, 2, 2))

    def both_ways():
        attended, pull = jax.vjp(attend, query, key, value)
        return attended, *pull(jnp.cos(jnp.arange(attended.size, dtype=jnp.float32)).reshape(attended.shape))

    expected, lengths = both_ways(), []
    dot_product_attention = jax.nn.dot_product_attention

    def kernel(query, *others, scale, is_causal, implementation):
        lengths.append(query.shape[1])
        return dot_product_attention(query, *others, scale=scale, is_causal=is_causal, implementation="xla")

    monkeypatch.setattr(layers, "attention_implementation", lambda query: "cudnn")
    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), both_ways(), expected)
    assert lengths == [length + length % 2]


def test_cudnn_runs_on_each_devices_shard(monkeypatch):
    """Inside the chunk's shard_map XLA cannot cut its calls, and refuses to compile them."""
    seen = []

    def kernel(query, key, value, **flags):
        seen.append((query.shape, key.shape, value.shape, flags))
        return query

    monkeypatch.setattr(layers, "attention_implementation", lambda query: "cudnn")
    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    query, key = (jax.ShapeDtypeStruct((4, 128, heads, 8), jnp.bfloat16) for heads in (4, 2))
    shape = AbstractMesh((1, 2, 2), ("lanes", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)
    with jax.sharding.use_abstract_mesh(shape):
        jax.jit(attend).trace(query, key, key)
    flags = {"scale": 8**-0.5, "is_causal": True, "implementation": "cudnn"}
    assert seen == [((2, 128, 2, 8), (2, 128, 1, 8), (2, 128, 1, 8), flags)]
