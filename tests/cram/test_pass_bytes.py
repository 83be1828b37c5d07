"""The account of a pass's bytes, against the account by hand and against the compiled pass."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxcram.cram import lanes, pass_bytes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.models import head
from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig

CONFIG = LlamaConfig(
    vocab_size=500,
    width=128,
    num_layers=6,
    num_heads=4,
    num_kv_heads=2,
    head_size=32,
    mlp_width=320,
    max_positions=64,
    tied_head=False,
    norm_eps=1e-5,
)
BUCKET, NUM_MEMORY = Bucket(tokens=39, lanes=24), 2
ROWS = BUCKET.lanes * (NUM_MEMORY + BUCKET.tokens - 1)


def abstract(dtype=jnp.float32, **changes) -> Decoder:
    config = dataclasses.replace(CONFIG, **changes)
    return jax.eval_shape(lambda: Decoder(config, dtype=dtype, rngs=nnx.Rngs(0)))


def account(model: Decoder, remat: bool) -> pass_bytes.PassBytes:
    return pass_bytes.count(model, BUCKET, NUM_MEMORY, remat=remat)


def test_weights_are_all_parameters_once():
    layer = 2 * 128 + (2 * 4 + 2 * 2) * 32 * 128 + 3 * 320 * 128
    assert account(abstract(jnp.bfloat16), False).weights == 2 * (6 * layer + 128 + 2 * 500 * 128)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_layer_stores_its_input_and_the_products_needed_by_its_gradient(dtype):
    """Queries, keys, values, attention's output, gate and up; not what the next layer begins with."""
    fewer, more = abstract(dtype, num_layers=2), abstract(dtype, num_layers=5)
    stored = [account(more, remat).stored - account(fewer, remat).stored for remat in (False, True)]
    products = (4 + 2 + 2) * 32 + 128 + 2 * 320
    assert stored == [3 * ROWS * size * jnp.dtype(dtype).itemsize for size in (128 + products, 128)]


@pytest.mark.parametrize("implementation", ["plain", "cudnn", "splash"])
def test_only_plain_attention_stores_scores(monkeypatch, implementation):
    monkeypatch.setattr(pass_bytes, "attention_implementation", lambda query: implementation)
    # The splash kernel pads 40 positions to one block of 128, and holds its part of a gradient and the sum.
    splash = 2 * 2 * BUCKET.lanes * 128 * 128
    expected = {"plain": 3 * 4 * ROWS * 4 * 40, "cudnn": 4 * ROWS * 128, "splash": splash}
    products = 4 * ROWS * (3 * 128 + 2 * 64 + 2 * 320)
    working = account(abstract(vocab_size=3), True).working
    assert working == 2 * products + expected[implementation]


@pytest.mark.parametrize("changes", [{"windows": (39, *[None] * 5)}, {"attention_cap": 9.0}])
def test_windows_shorter_than_the_text_and_caps_store_scores(monkeypatch, changes):
    """Of 40 positions; no fused kernel has either."""
    monkeypatch.setattr(pass_bytes, "attention_implementation", lambda query: "cudnn")
    products, scores = 4 * ROWS * (3 * 128 + 2 * 64 + 2 * 320), 3 * 4 * ROWS * 4 * 40
    assert account(abstract(vocab_size=3, **changes), True).working == 2 * products + scores
    assert account(abstract(vocab_size=3, windows=(40,) * 6), True).working < 2 * products + scores


def test_on_tpu_a_layer_stores_the_kernels_output_and_its_log_sum_exp(monkeypatch):
    def per_layer() -> int:
        """Of 128 positions, which need no padding."""
        fewer, more = (abstract(jnp.bfloat16, num_layers=count) for count in (2, 5))
        bucket = Bucket(tokens=127, lanes=3)
        stored = [pass_bytes.count(model, bucket, 2, remat=False).stored for model in (fewer, more)]
        return (stored[1] - stored[0]) // 3

    plain = per_layer()
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert per_layer() - plain == 3 * 128 * (128 * 2 + 4 * 4)


def test_the_head_needs_a_chunk_of_logits_and_their_gradient(monkeypatch):
    monkeypatch.setattr(head, "CHUNK_LOGITS", 70 * 900_000)
    tokens = BUCKET.lanes * BUCKET.tokens
    working = account(abstract(jnp.bfloat16, vocab_size=900_000), False).working
    assert working == 70 * 900_000 * (4 + 2) + tokens * 128 * 4


def compiled(model: Decoder, remat: bool) -> int:
    """Temporaries of the pass as XLA compiles it here, bytes."""
    settings = PassSettings(remat=remat)
    pool = jax.eval_shape(
        lambda: lanes.init_pool(
            lanes.Problem(
                jnp.ones((BUCKET.lanes, BUCKET.tokens), jnp.int32),
                jnp.full(BUCKET.lanes, BUCKET.tokens),
                jnp.full(BUCKET.lanes, 0.1),
            ),
            jnp.ones((BUCKET.lanes, NUM_MEMORY, CONFIG.width)),
            settings,
        )
    )
    step = jax.jit(lambda model, pool: lanes.one_pass(model, pool, BUCKET.tokens, settings))
    return step.lower(model, pool).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.optimised
@pytest.mark.parametrize("remat", [False, True])
def test_the_estimate_agrees_with_the_compiled_pass(remat):
    """In fp32, for a CPU computes bf16 in fp32."""
    model = abstract()
    expected = account(model, remat)
    assert compiled(model, remat) == pytest.approx(expected.stored + expected.working, rel=0.15)
