"""Published config.json files, field by field, and which layers of theirs differ."""

import numpy as np
import pytest

from jaxcram.models.gemma import GemmaConfig
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.qwen import Qwen2Config, Qwen3Config
from jaxcram.models.rope import LinearScaling, Llama3Scaling
from jaxcram.models.smollm3 import SmolLM3Config
from tests.models.configs import GEMMA, LLAMA3, QWEN2, QWEN3, SMOLLM3, read


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


def test_gemma_3_4b_as_published():
    """What transformers has as defaults is not in the file."""
    published = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 255999,
        "eoi_token_index": 256000,
        "eos_token_id": [1, 106],
        "image_token_index": 262144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
    }
    config = read(published)
    assert config == GemmaConfig(
        vocab_size=262_208,
        width=2560,
        num_layers=34,
        num_heads=8,
        num_kv_heads=4,
        head_size=256,
        mlp_width=10240,
        max_positions=131_072,
        tied_head=True,
        norm_eps=1e-6,
        rope_theta=1e6,
        rope_scaling=LinearScaling(8.0),
        rope_local_theta=1e4,
        windows=((1024,) * 5 + (None,)) * 5 + (1024,) * 4,
        query_pre_attn_scalar=256,
        bos_token_id=2,
        eos_token_ids=(1, 106),
    )
    assert (config.attention_scale, config.embedding_scale) == (1 / 16, 2560**0.5)
    local, full = config.rotary_frequencies()[4:6]
    np.testing.assert_allclose(local, 1e4 ** (-np.arange(128) / 128), rtol=1e-5)
    np.testing.assert_allclose(full, 1e6 ** (-np.arange(128) / 128) / 8, rtol=1e-5)


def test_qwen3_8b_and_qwen2_5_7b_as_published():
    """Both name a window, and do not use it."""
    common = {
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_window_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
    }
    qwen2 = {
        **common,
        **{"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
        **{"num_attention_heads": 28, "vocab_size": 152064, "max_position_embeddings": 131072},
        **{"eos_token_id": 151643, "sliding_window": 131072, "use_mrope": False},
    }
    qwen3 = {
        **common,
        **{"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
        **{"max_position_embeddings": 40960, "eos_token_id": 151645, "sliding_window": None},
        **{"attention_bias": False, "rope_scaling": None, "max_window_layers": 36},
    }
    first, second = read(qwen2), read(qwen3)
    assert (type(first), first.head_size, first.windows, first.out_bias) == (Qwen2Config, 128, (), False)
    assert (type(second), second.head_size, second.windows) == (Qwen3Config, 128, ())
    assert (first.rope_theta, first.attention_bias, second.attention_bias) == (1e6, True, False)


def test_smollm3_3b_as_published():
    published = {
        **{"architectures": ["SmolLM3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0},
        **{"bos_token_id": 128000, "eos_token_id": 128001, "pad_token_id": 128004, "hidden_act": "silu"},
        **{"hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 11008, "mlp_bias": False},
        **{"layer_types": ["full_attention"] * 36, "max_position_embeddings": 65536},
        **{"max_window_layers": 28, "model_type": "smollm3", "no_rope_layer_interval": 4},
        **{"no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16, "num_hidden_layers": 36},
        **{"num_key_value_heads": 4, "pretraining_tp": 2, "rms_norm_eps": 1e-06, "rope_scaling": None},
        **{"rope_theta": 5000000.0, "sliding_window": None, "torch_dtype": "bfloat16", "use_cache": False},
        **{"use_sliding_window": False, "vocab_size": 128256},
    }
    config = read(published)
    assert (type(config), config.head_size, config.tied_head) == (SmolLM3Config, 128, True)
    assert (config.rotates, config.windows) == ((True, True, True, False) * 9, ())
    frequencies_LxR = config.rotary_frequencies()
    assert frequencies_LxR.shape == (36, 64)
    assert not frequencies_LxR[3::4].any()
    np.testing.assert_allclose(frequencies_LxR[2], 5e6 ** (-np.arange(64) / 64), rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "windows"),
    [
        (GEMMA | {"layer_types": None, "num_hidden_layers": 7}, (16,) * 5 + (None, 16)),
        (GEMMA | {"layer_types": None, "sliding_window_pattern": 2}, (16, None)),
        (GEMMA | {"sliding_window_pattern": 2}, (None, 16)),
        (QWEN2 | {"sliding_window": 8}, ()),
        (QWEN2 | {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}, (None, 8)),
        (QWEN3 | {"use_sliding_window": True, "max_window_layers": 0}, (4096, 4096)),
        (QWEN3 | {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": None}, ()),
        (QWEN3 | {"layer_types": ["full_attention"] * 2, "use_sliding_window": True}, ()),
        (SMOLLM3 | {"sliding_window": 8, "use_sliding_window": True}, (None, 8)),
        (SMOLLM3 | {"sliding_window": 8}, ()),
    ],
)
def test_which_layers_slide(values, windows):
    assert read(values).windows == windows


def test_every_fourth_layer_of_a_smollm3_is_without_positions_unless_said_otherwise():
    long = SMOLLM3 | {"no_rope_layers": None, "num_hidden_layers": 5}
    assert read(long).rotates == (True, True, True, False, True)
    assert read(long | {"no_rope_layer_interval": 2}).rotates == (True, False, True, False, True)
    assert read(long | {"no_rope_layers": [0, 1, 1, 1, 0, 0]}).rotates == (False, True, True, True, False)
