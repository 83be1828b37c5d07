"""The smallest config.json of each family, for tests to build on."""

from jaxcram.models.registry import read_config

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
LINEAR = {"rope_type": "linear", "factor": 8.0}


GEMMA = {
    **LLAMA,
    "model_type": "gemma3_text",
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 16,
    "layer_types": ["full_attention", "sliding_attention"],
}
QWEN2 = LLAMA | {"model_type": "qwen2", "num_key_value_heads": 2}
QWEN3 = QWEN2 | {"model_type": "qwen3", "head_dim": 8}
SMOLLM3 = LLAMA | {"model_type": "smollm3", "no_rope_layers": [1, 0]}


def read(values):
    return read_config(values, "config.json")
