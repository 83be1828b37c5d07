"""The model families, and all that the rest of the package knows of a model.

A family is one file: a subclass of `DecoderConfig` (its settings, its table from parameters to checkpoint
names, and how a mesh cuts them) and its block. A new one is a file and an entry in `FAMILIES`.

All families run in one `Decoder`, a pytree of weights. Outside `jaxcram.models` it is used through

    config       numbers: vocabulary, width, positions, .. (`DecoderConfig`)
    dtype        of weights, inputs and hidden states
    embed        token ids to input embeddings
    __call__     input embeddings to hidden states, with or without knockout of the memory
    blocks       the layers one by one
    head         what makes scores of hidden states, for sweeps over the vocabulary (`models.head`)
    logits       hidden states to scores over the vocabulary
    init_cache   an empty key-value cache
    extend       input embeddings and a cache to hidden states and a cache
    states       input embeddings to the residual stream before every layer
    resumed      the residual stream before a layer to hidden states
    measured     input embeddings to a measure of every layer's attention weights
    for_backend  the same decoder with its layers as they are quickest on this backend

and through nothing else.
"""

from collections.abc import Mapping
from typing import Any

from jaxcram.errors import UserError
from jaxcram.models.config import DecoderConfig
from jaxcram.models.fields import Fields
from jaxcram.models.gemma import GemmaConfig
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.qwen import Qwen2Config, Qwen3Config
from jaxcram.models.smollm3 import SmolLM3Config

# By `model_type`: a family may have several, of which it writes one.
FAMILIES: Mapping[str, type[DecoderConfig]] = {
    "llama": LlamaConfig,
    "gpt_neox": NeoXConfig,
    "gemma3_text": GemmaConfig,
    "gemma3": GemmaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "smollm3": SmolLM3Config,
}


def read_config(values: Mapping[str, Any], source: str) -> DecoderConfig:
    """The config of any known family from a parsed config.json; `source` names the file in errors.

    Raises:
        UserError: the family is unknown, or a field is missing, has a wrong value or is not supported.
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        listed = ", ".join(sorted(FAMILIES))
        raise UserError(f"{source}: model_type = {model_type!r} is not a family here; families: {listed}")
    fields = Fields(values, source)
    config = FAMILIES[model_type].from_fields(fields)
    fields.close()
    return config
