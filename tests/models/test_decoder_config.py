"""config.json is the only source of numbers: what it says is honoured, or refused by name."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.models.ignored import IGNORED
from tests.fixtures.make_ignored_fields import RELEVANT, TABLE, names, table
from tests.models.configs import GEMMA, LINEAR, LLAMA, LLAMA3, NEOX, QWEN2, QWEN3, SMOLLM3, read


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            GEMMA | {"rope_theta": 2e6, "rope_local_base_freq": 2e4, "rope_scaling": LINEAR},
            GEMMA
            | {
                "rope_parameters": {
                    "full_attention": LINEAR | {"rope_theta": 2e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
                }
            },
        ),
        (GEMMA | {"model_type": "gemma3"}, GEMMA),
        (
            {"model_type": "gemma3", "text_config": GEMMA, "vision_config": {"depth": 9}, "eos_token_id": 3},
            GEMMA | {"eos_token_id": 3},
        ),
        (
            LLAMA | {"rope_theta": 5e5, "rope_scaling": LLAMA3},
            LLAMA | {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}},
        ),
        (
            LLAMA | {"rope_theta": 300},
            LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
        ),
        (LLAMA | {"rope_scaling": {"type": "default"}}, LLAMA | {"rope_scaling": None}),
        (
            NEOX | {"rotary_emb_base": 500, "rotary_pct": 1.0},
            NEOX
            | {"rotary_pct": None, "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 1.0}},
        ),
        # Equal duplicates, at whichever level.
        (NEOX | {"rotary_pct": 0.5, "partial_rotary_factor": 0.5}, NEOX),
        (NEOX | {"rotary_pct": None, "partial_rotary_factor": 0.5}, NEOX),
        (
            NEOX | {"rotary_emb_base": 500, "rope_theta": 500.0, "rope_parameters": {"rope_theta": 500}},
            NEOX | {"rotary_emb_base": 500},
        ),
        (NEOX | {"num_key_value_heads": 2, "head_dim": 8}, NEOX),
        (
            LLAMA
            | {"rope_theta": 5e5, "rope_scaling": LLAMA3, "rope_parameters": LLAMA3 | {"rope_theta": 5e5}},
            LLAMA | {"rope_theta": 5e5, "rope_scaling": LLAMA3},
        ),
        (LLAMA | {"rope_scaling": LLAMA3 | {"type": "llama3"}}, LLAMA | {"rope_scaling": LLAMA3}),
        (
            LLAMA | {"rope_scaling": LLAMA3, "original_max_position_embeddings": 8192},
            LLAMA | {"rope_scaling": LLAMA3},
        ),
        (LLAMA | {"partial_rotary_factor": 1.0, "rope_parameters": {}, "rope_scaling": {}}, LLAMA),
        (
            LLAMA
            | {"rope_scaling": {"type": "default", "factor": 1.0}, "original_max_position_embeddings": 64},
            LLAMA,
        ),
        (LLAMA | {"hidden_act": "swish"}, LLAMA | {"hidden_act": "silu"}),
    ],
)
def test_old_and_new_rotary_fields_mean_the_same(old, new):
    assert read(old) == read(new)


def test_linear_scaling_divides_every_frequency():
    plain, scaled = (
        read(QWEN2 | {"rope_scaling": scaling}).rotary_frequencies() for scaling in (None, LINEAR)
    )
    np.testing.assert_array_equal(scaled, plain / 8)


def test_llama3_scaling_slows_only_the_slow_rotations():
    plain, scaled = (
        read(LLAMA | {"head_dim": 64, "rope_theta": 5e5, "rope_scaling": scaling}).rotary_frequencies()
        for scaling in (None, LLAMA3)
    )
    turns = 8192 * plain / (2 * np.pi)
    np.testing.assert_allclose(scaled[turns > 4], plain[turns > 4])
    np.testing.assert_allclose(scaled[turns < 1], plain[turns < 1] / 32)
    between = (turns > 1) & (turns < 4)
    assert between.any()
    assert ((plain[between] / 32 < scaled[between]) & (scaled[between] < plain[between])).all()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, ["model_type = None", "gpt_neox, llama"]),
        (LLAMA | {"model_type": "gemma2"}, ["model_type = 'gemma2'", "gemma3, gemma3_text, gpt_neox, llama"]),
        (GEMMA | {"use_bidirectional_attention": True}, ["use_bidirectional_attention = True"]),
        (GEMMA | {"hidden_activation": "silu"}, ["hidden_activation = 'silu'", "gelu_pytorch_tanh"]),
        (GEMMA | {"final_logit_softcapping": 0.0}, ["final_logit_softcapping = 0.0"]),
        (GEMMA | {"query_pre_attn_scalar": 1.5}, ["query_pre_attn_scalar = 1.5", "int"]),
        (GEMMA | {"layer_types": ["full_attention"]}, ["layer_types = ['full_attention']", "2 layers"]),
        (GEMMA | {"layer_types": ["chunked_attention"] * 2}, ["layer_types", "'sliding_attention'"]),
        (GEMMA | {"rope_parameters": {"rope_theta": 2e6}}, ["rope_parameters", "'rope_theta': 2000000.0"]),
        (
            GEMMA | {"rope_theta": 1e6, "rope_parameters": {"full_attention": {"rope_theta": 2e6}}},
            ["rope_theta = 1000000.0", "contradicts"],
        ),
        (
            GEMMA | {"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}},
            ["rope_parameters: rope_type = 'yarn'"],
        ),
        ({"model_type": "gemma3", "text_config": GEMMA, "clip_qkv": 8}, ["clip_qkv = 8"]),
        ({"model_type": "gemma3", "text_config": GEMMA | {"clip_qkv": 8}}, ["clip_qkv = 8"]),
        (QWEN2 | {"use_mrope": True}, ["use_mrope = True"]),
        (QWEN2 | {"rope_scaling": {"type": "yarn", "factor": 4.0}}, ["rope_scaling", "rope_type = 'yarn'"]),
        (QWEN3 | {"layer_types": ["sliding_attention"] * 2}, ["layer_types", "no sliding_window"]),
        (SMOLLM3 | {"no_rope_layers": [1]}, ["no_rope_layers = [1]", "2 flags"]),
        (SMOLLM3 | {"no_rope_layers": [1, "0"]}, ["no_rope_layers = [1, '0']"]),
        (LLAMA | {"hidden_size": None}, ["hidden_size is missing"]),
        (LLAMA | {"hidden_size": "16"}, ["hidden_size = '16'", "int"]),
        (LLAMA | {"num_hidden_layers": 0}, ["num_hidden_layers = 0"]),
        (LLAMA | {"vocab_size": True}, ["vocab_size = True"]),
        (LLAMA | {"num_key_value_heads": 3}, ["num_key_value_heads = 3", "4 heads"]),
        (LLAMA | {"head_dim": 5}, ["head_dim = 5"]),
        (LLAMA | {"hidden_act": "relu"}, ["hidden_act = 'relu'", "silu"]),
        (LLAMA | {"pretraining_tp": 2}, ["pretraining_tp = 2"]),
        (LLAMA | {"sliding_window": 4096}, ["sliding_window = 4096"]),
        (LLAMA | {"quantization_config": {"bits": 4}}, ["quantization_config", "'bits': 4"]),
        (LLAMA | {"rope_interleaved": True, "clip_qkv": 8}, ["rope_interleaved = True", "clip_qkv = 8"]),
        (LLAMA | {"rms_norm_eps": float("inf")}, ["rms_norm_eps = inf"]),
        (LLAMA | {"eos_token_id": "</s>"}, ["eos_token_id", "</s>"]),
        (
            LLAMA | {"rope_scaling": {"type": "longrope", "factor": 2.0}},
            ["rope_scaling", "rope_type = 'longrope'", "linear", "llama3"],
        ),
        (LLAMA | {"rope_parameters": {"rope_type": "yarn"}}, ["rope_parameters", "rope_type = 'yarn'"]),
        (LLAMA | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ["low_freq_factor is missing"]),
        (LLAMA | {"rope_scaling": LLAMA3 | {"mscale": 2}}, ["rope_scaling", "mscale = 2"]),
        (LLAMA | {"rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial_rotary_factor = 0.5"]),
        (
            LLAMA | {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 2e4}},
            ["rope_theta = 10000.0", "20000.0"],
        ),
        (
            NEOX | {"rotary_pct": 0.25, "partial_rotary_factor": 0.5},
            ["rotary_pct = 0.25", "contradicts partial_rotary_factor = 0.5"],
        ),
        (
            LLAMA | {"rope_scaling": LLAMA3, "rope_parameters": LLAMA3 | {"factor": 8.0}},
            ["rope_scaling: factor = 32.0", "contradicts factor = 8.0"],
        ),
        (
            LLAMA | {"rope_scaling": {"type": "default", "rope_type": "llama3"}},
            ["rope_type = 'llama3'", "contradicts rope_type = 'default'"],
        ),
        (LLAMA | {"rope_scaling": {"rope_type": "default", "factor": 2.0}}, ["factor = 2.0"]),
        (LLAMA | {"is_encoder_decoder": True}, ["is_encoder_decoder = True"]),
        (LLAMA | {"pruned_heads": {"0": [1]}}, ["pruned_heads"]),
        (NEOX | {"head_dim": 16}, ["head_dim = 16"]),
        (NEOX | {"hidden_act": "silu"}, ["hidden_act = 'silu'", "gelu_fast"]),
        (NEOX | {"num_attention_heads": 3}, ["num_attention_heads = 3", "hidden_size = 16"]),
        (NEOX | {"rotary_pct": 0.4}, ["partial_rotary_factor = 0.4", "size 8"]),
        (NEOX | {"rotary_pct": 2.0}, ["partial_rotary_factor = 2.0"]),
        (NEOX | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["rope_type = 'dynamic'"]),
        (NEOX | {"num_key_value_heads": 1}, ["num_key_value_heads = 1"]),
        (NEOX | {"use_parallel_residual": 1}, ["use_parallel_residual = 1", "bool"]),
    ],
)
def test_unsupported_fields_are_refused_by_name_and_value(values, named):
    with pytest.raises(UserError) as caught:
        read(values)
    message = str(caught.value)
    assert message.startswith("config.json: ")
    assert "\n" not in message
    assert [part for part in named if part not in message] == []


@pytest.mark.parametrize("values", [LLAMA, NEOX, GEMMA, QWEN2, QWEN3, SMOLLM3])
def test_fields_without_effect_are_ignored(values):
    harmless = {name: "anything" for name in IGNORED if name != "model_type"}
    no = {"rope_interleaved": False, "use_sliding_window": False, "pruned_heads": {}, "layer_typing": []}
    assert read(values | harmless | no) == read(values)


@pytest.mark.slow
def test_the_table_of_fields_without_effect_is_that_of_the_installed_transformers():
    assert names() - IGNORED == set()
    assert set() == IGNORED & RELEVANT
    assert TABLE.read_text() == table(set(IGNORED))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}, "num_key_value_heads": 2}),
        ("llama", {"tie_word_embeddings": True, "pad_token_id": 0}),
        ("gpt_neox", {"rotary_pct": 0.5, "num_attention_heads": 2}),
        ("gpt_neox", {}),
    ],
)
def test_configs_written_by_the_installed_transformers_are_read(tmp_path, kind, settings):
    from transformers import AutoConfig

    sizes = {name: value for name, value in LLAMA.items() if name != "model_type"}
    AutoConfig.for_model(kind, **(sizes | {"hidden_size": 32} | settings)).save_pretrained(tmp_path)
    config = read(json.loads((tmp_path / "config.json").read_text()))
    assert (config.family, config.rope_theta) == (kind, 5e5 if "rope_parameters" in settings else 10_000.0)
    if kind == "gpt_neox":
        assert config.rotary_fraction == settings.get("rotary_pct", 0.25)


# What transformers 4.57 writes for a GPT-NeoX, beside the sizes.
NEOX_4_57 = {
    **{"architectures": ["GPTNeoXForCausalLM"], "attention_bias": True, "attention_dropout": 0.0},
    **{
        "bos_token_id": 0,
        "classifier_dropout": 0.1,
        "dtype": "float32",
        "eos_token_id": 2,
        "hidden_act": "gelu",
    },
    **{"hidden_dropout": 0.0, "initializer_range": 0.02, "layer_norm_eps": 1e-05, "rope_scaling": None},
    **{
        "partial_rotary_factor": 0.5,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.5,
        "tie_word_embeddings": False,
    },
    **{"transformers_version": "4.57.6", "use_cache": True, "use_parallel_residual": True},
}


def test_a_neox_as_transformers_4_57_writes_it():
    assert read(NEOX | NEOX_4_57) == read(NEOX | {"bos_token_id": 0, "eos_token_id": 2})


def test_token_ids_beyond_the_vocabulary_have_no_row():
    config = read(LLAMA)
    config.require_ids(np.array([[0, 31]]), "the prompt")
    for wrong in (32, -1, 2**31 - 1):
        with pytest.raises(UserError) as caught:
            config.require_ids([0, wrong, 5], "the prompt")
        assert str(caught.value) == (
            f"the prompt: its token {wrong} is beyond the model's vocabulary of 32: "
            "tokenizer and weights do not belong together"
        )


CAPPED = {
    "rope_scaling": LINEAR,
    "rope_local_base_freq": 500.0,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "query_pre_attn_scalar": 7,
    "attention_bias": True,
}
WITH_WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}


@pytest.mark.parametrize(
    "values",
    [
        *(LLAMA, LLAMA | {"rope_scaling": LLAMA3, "mlp_bias": True}, NEOX, GEMMA, GEMMA | CAPPED),
        *(QWEN2, QWEN2 | WITH_WINDOWS, QWEN3, QWEN3 | WITH_WINDOWS, SMOLLM3, SMOLLM3 | WITH_WINDOWS),
        GEMMA | {"layer_types": ["full_attention"] * 2},
    ],
)
def test_a_written_config_reads_back_equal(values):
    config = read(values | {"bos_token_id": 1, "eos_token_id": [2, 3]})
    assert read(config.to_fields()) == config


@pytest.mark.parametrize(
    "values",
    [
        *(LLAMA | {"attention_bias": True, "mlp_bias": True}, NEOX),
        *(GEMMA | {"attention_bias": True, "tie_word_embeddings": False}, QWEN2),
        QWEN3 | {"attention_bias": True},
        SMOLLM3 | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    ],
)
def test_the_table_of_names_covers_every_parameter(values):
    config = read(values)
    decoder = jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    paths, _ = jax.tree.flatten_with_path(decoder)
    names = {
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value") for path, _ in paths
    }
    assert names == set(config.checkpoint_names)
