"""Submodule by submodule, then whole, against Hugging Face transformers in fp32: recorded, and live."""

import importlib.util
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.models.layers import attend, causal_mask, rotary_tables, rotate

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 1e-4

pytestmark = pytest.mark.optimised


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_parity", FIXTURES / "make_parity.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker


CASES = load_maker().CASES
QUICK = ("llama_plain", "neox_parallel", "gemma_plain", "qwen3_plain")  # compiled in every run of the tests


@jax.jit
def record(decoder: Decoder, tokens_BxT: jax.Array) -> dict[str, jax.Array]:
    """What make_parity.record gives for the reference, from the decoder's own parts."""
    config, positions_T = decoder.config, jnp.arange(tokens_BxT.shape[1])
    scores = {"scale": config.attention_scale, "cap": config.attention_cap}

    def layer(x_BxTxD, block, frequencies, window):
        tables, mask = rotary_tables(frequencies, positions_T), causal_mask(positions_T, positions_T, window)
        query, key, value = block.qkv(x_BxTxD)
        attended = attend(rotate(query, tables), rotate(key, tables), value, mask, **scores)
        parts = {"attention_norm": block.attention_norm(x_BxTxD)}
        parts["attention"] = added = block.out(attended.reshape(*tokens_BxT.shape, -1))
        if hasattr(block, "attended_norm"):
            parts["attended_norm"] = added = block.attended_norm(added)
        parallel = getattr(block, "parallel_residual", False)
        parts["mlp_norm"] = block.mlp_norm(x_BxTxD if parallel else x_BxTxD + added)
        parts["mlp"] = block.mlp(parts["mlp_norm"])
        if hasattr(block, "mlp_out_norm"):
            parts["mlp_out_norm"] = block.mlp_out_norm(parts["mlp"])
        return parts | {"block": block.finish(x_BxTxD, attended)}

    def loss(inputs_BxTxD):
        hidden = decoder(inputs_BxTxD)
        logits = decoder.logits(hidden)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens_BxT[:, 1:, None], axis=-1)
        return -picked.sum(), {"final_norm": hidden, "logits": logits}

    inputs_BxTxD = x_BxTxD = decoder.embed(tokens_BxT)
    layers = []
    frequencies_LxR = np.broadcast_to(
        config.rotary_frequencies(), (config.num_layers, config.rotary_size // 2)
    )
    windows_L = config.windows or [None] * config.num_layers
    for block, frequencies, window in zip(decoder.blocks, frequencies_LxR, windows_L, strict=True):
        layers.append(layer(x_BxTxD, block, frequencies, window))
        x_BxTxD = layers[-1]["block"]
    parts = jax.tree.map(lambda *x: jnp.stack(x), *layers)
    gradient, whole = jax.grad(loss, has_aux=True)(inputs_BxTxD)
    return {"embed": inputs_BxTxD, **parts, **whole, "gradient": gradient}


def assert_same(decoder: Decoder, expected: dict[str, np.ndarray]) -> None:
    tokens_BxT = expected.pop("tokens")
    found = record(decoder, tokens_BxT)
    assert found.keys() == expected.keys()
    errors = {name: float(np.abs(found[name] - expected[name]).max()) for name in expected}
    wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE}
    assert not wrong


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_every_submodule_equals_the_recorded_reference(case: str):
    directory = FIXTURES / "parity" / case
    with np.load(directory / "expected.npz") as expected:
        assert_same(port.load(directory, dtype="float32"), dict(expected))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_submodule_equals_transformers(case: str, tmp_path: Path):
    pytest.importorskip("torch")
    maker = load_maker()
    model = maker.build(case, seed=1)  # of the recorded sizes, so that nothing is compiled anew
    model.save_pretrained(tmp_path)
    assert_same(port.load(tmp_path, dtype="float32"), maker.record(model, maker.draw_tokens(seed=1)))


@pytest.mark.slow
def test_a_gemma_with_images_equals_transformers_on_text(tmp_path: Path):
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, Gemma3ForConditionalGeneration

    maker = load_maker()
    text = maker.build("gemma_plain", seed=3)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    images = {"vision_config": vision | {"image_size": 8, "patch_size": 4}, "mm_tokens_per_image": 4}
    config = AutoConfig.for_model("gemma3", text_config=text.config.to_dict(), **images)
    model = Gemma3ForConditionalGeneration(config).eval()
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.save_pretrained(tmp_path)
    decoder, tokens_BxT = port.load(tmp_path, dtype="float32"), maker.draw_tokens(seed=3)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(tokens_BxT)).logits.numpy()
    np.testing.assert_allclose(record(decoder, tokens_BxT)["logits"], expected, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_transformers_reads_what_save_writes(case: str, tmp_path: Path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    decoder = port.load(FIXTURES / "parity" / case, dtype="float32")
    port.save(decoder, tmp_path, dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    maker = load_maker()
    tokens_BxT = maker.draw_tokens(seed=2)
    with torch.no_grad():
        expected = maker.run(model, input_ids=torch.tensor(tokens_BxT)).logits.numpy()
    np.testing.assert_allclose(record(decoder, tokens_BxT)["logits"], expected, atol=TOLERANCE)
    assert model.config.bos_token_id == decoder.config.bos_token_id
