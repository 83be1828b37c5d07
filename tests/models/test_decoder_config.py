"""config.json is the only source of numbers: what it says is honoured, or refused by name."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.models.ignored import IGNORED
from jaxcram.models.llama import Llama3Scaling, LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.registry import read_config
from tests.fixtures.make_ignored_fields import RELEVANT, TABLE, names, table

LLAMA = {
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
NEOX = LLAMA | {"model_type": "gpt_neox", "num_attention_heads": 2, "rotary_pct": 0.5}
LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def read(values):
    return read_config(values, "config.json")


def test_llama_3_2_1b_as_published():
    published = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008],
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": LLAMA3,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0",
        "use_cache": True,
        "vocab_size": 128256,
    }
    assert read(published) == LlamaConfig(
        vocab_size=128256,
        width=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_size=64,
        mlp_width=8192,
        max_positions=131072,
        tied_head=True,
        norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=Llama3Scaling(32.0, 1.0, 4.0, 8192),
        bos_token_id=128000,
        eos_token_ids=(128001, 128008),
    )


def test_pythia_160m_as_published():
    published = {
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "gelu",
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048,
        "model_type": "gpt_neox",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.24.0",
        "use_cache": True,
        "use_parallel_residual": True,
        "vocab_size": 50304,
    }
    config = read(published)
    assert config == NeoXConfig(
        vocab_size=50304,
        width=768,
        num_layers=12,
        num_heads=12,
        num_kv_heads=12,
        head_size=64,
        mlp_width=3072,
        max_positions=2048,
        tied_head=False,
        norm_eps=1e-5,
        bos_token_id=0,
        eos_token_ids=(0,),
    )
    assert config.rotary_size == 16


@pytest.mark.parametrize(
    ("old", "new"),
    [
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
        (LLAMA | {"model_type": "gemma3_text"}, ["model_type = 'gemma3_text'", "gpt_neox, llama"]),
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
            LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}},
            ["rope_scaling", "rope_type = 'linear'"],
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


@pytest.mark.parametrize("values", [LLAMA, NEOX])
def test_fields_without_effect_are_ignored(values):
    harmless = {name: "anything" for name in IGNORED if name != "model_type"}
    no = {"rope_interleaved": False, "sliding_window": None, "pruned_heads": {}, "layer_types": []}
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


@pytest.mark.parametrize("values", [LLAMA, LLAMA | {"rope_scaling": LLAMA3, "mlp_bias": True}, NEOX])
def test_a_written_config_reads_back_equal(values):
    config = read(values | {"bos_token_id": 1, "eos_token_id": [2, 3]})
    assert read(config.to_fields()) == config


@pytest.mark.parametrize(
    "values",
    [LLAMA | {"attention_bias": True, "mlp_bias": True}, NEOX],
)
def test_the_table_of_names_covers_every_parameter(values):
    config = read(values)
    decoder = jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    paths, _ = jax.tree.flatten_with_path(decoder)
    names = {
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value") for path, _ in paths
    }
    assert names == set(config.checkpoint_names)
