"""Every parameter of every family has a place on a mesh, and what cannot be cut is told or stays whole."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

from jaxcram.devices.mesh import MeshShape
from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.models.config import DecoderConfig
from jaxcram.models.decoder import Decoder
from jaxcram.models.gemma import GemmaConfig
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.qwen import Qwen2Config, Qwen3Config
from jaxcram.models.registry import FAMILIES
from jaxcram.models.sharding import shardings

SIZES = {"width": 32, "num_layers": 3, "num_heads": 8, "head_size": 4, "mlp_width": 48, "norm_eps": 1e-5}
LLAMA = LlamaConfig(
    **SIZES,
    vocab_size=50,
    num_kv_heads=2,
    max_positions=32,
    tied_head=False,
    attention_bias=True,
    mlp_bias=True,
)
NEOX = NeoXConfig(
    **SIZES, vocab_size=64, num_kv_heads=8, max_positions=32, tied_head=False, rotary_fraction=0.5
)
MORE = {"vocab_size": 64, "max_positions": 32, "tied_head": True}
GEMMA = GemmaConfig(**SIZES, **MORE, num_kv_heads=1, attention_bias=True)
QWEN2 = Qwen2Config(**SIZES, **MORE, num_kv_heads=2)
QWEN3 = Qwen3Config(**SIZES, **MORE, num_kv_heads=2)


def axes(**sizes: int) -> AbstractMesh:
    sizes = {"lanes": 1, "fsdp": 1, "model": 1} | sizes
    return AbstractMesh(tuple(sizes.values()), tuple(sizes))


def shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    abstract = jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    return {port._name(path): leaf.shape for path, leaf in jax.tree.flatten_with_path(abstract)[0]}


def specs(config: DecoderConfig, **sizes: int) -> dict[str, PartitionSpec]:
    return {path: place.spec for path, place in shardings(config, shapes(config), axes(**sizes)).items()}


def test_every_parameter_of_every_family_has_a_sharding_rule():
    without = {
        f"{family}: {path}"
        for family, config in FAMILIES.items()
        for path in config.checkpoint_names.keys() ^ config.cuts.keys()
    }
    assert without == set()


@pytest.mark.parametrize("config", [LLAMA, NEOX, GEMMA, QWEN2, QWEN3])
def test_sharded_axes_are_multiples_of_their_pieces(config):
    """A cut axis is a whole number of pieces, or heads would be torn apart."""
    for path, shape in shapes(config).items():
        if cut := config.cuts[path]:
            of_layer = shape[1:] if path.startswith("layers.") else shape
            assert of_layer[cut.axis] % getattr(config, cut.pieces) == 0, path


def test_products_are_sharded_without_needless_collectives():
    found = specs(LLAMA, model=2)
    by_output, by_input = PartitionSpec(None, "model"), PartitionSpec(None, None, "model")
    for name in ("query", "key", "value", "gate", "up"):
        assert found[f"layers.{name}.weight"] == found[f"layers.{name}.bias"] == by_output
    for name in ("out", "down"):
        assert (found[f"layers.{name}.weight"], found[f"layers.{name}.bias"]) == (by_input, PartitionSpec())
    assert found["embedding_VxD"] == found["untied_head_VxD"] == PartitionSpec("model")
    assert found["layers.attention_norm.weight"] == found["final_norm.weight"] == PartitionSpec()
    assert specs(NEOX, model=4)["layers.query_key_value.weight"] == by_output


def test_indivisible_key_heads_and_vocabulary_are_replicated():
    found = specs(LLAMA, model=4)
    whole = {"layers.key.weight", "layers.value.weight", "layers.key.bias", "layers.value.bias"}
    assert all(found[path] == PartitionSpec() for path in whole | {"embedding_VxD", "untied_head_VxD"})
    assert found["layers.query.weight"] == PartitionSpec(None, "model")


def test_norms_and_a_single_key_head_are_whole():
    whole = {path for path, spec in specs(GEMMA, model=2).items() if spec == PartitionSpec()}
    norms = ("attention_norm", "query_norm", "key_norm", "attended_norm", "mlp_norm", "mlp_out_norm")
    single = ("key.weight", "key.bias", "value.weight", "value.bias", "out.bias")
    assert whole == {"final_norm.weight", *(f"layers.{name}.weight" for name in norms)} | {
        f"layers.{name}" for name in single
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [({"num_heads": 6, "num_kv_heads": 6}, "num_heads, 6"), ({"mlp_width": 42}, "mlp_width, 42")],
)
def test_heads_and_mlp_must_be_divisible(change, named):
    config = dataclasses.replace(LLAMA, **change)
    with pytest.raises(UserError) as error:
        specs(config, model=4)
    assert str(error.value) == (
        f"mesh model:4: does not divide the model's {named}; choose a divisor of it, or fsdp"
    )


def test_fsdp_shards_each_weight_along_its_longest_divisible_axis():
    found = specs(dataclasses.replace(LLAMA, mlp_width=42), fsdp=4)
    assert found["layers.up.weight"] == PartitionSpec(None, None, "fsdp")
    assert found["layers.down.weight"] == PartitionSpec(None, "fsdp")
    assert found["layers.query.weight"] == PartitionSpec(None, "fsdp")
    assert found["layers.up.bias"] == PartitionSpec(), "42 is no multiple of 4, and layers are never cut"
    assert found["embedding_VxD"] == PartitionSpec(None, "fsdp"), "50 is no multiple of 4"
    assert found["final_norm.weight"] == PartitionSpec("fsdp")


def test_weights_are_replicated_over_lanes():
    assert set(specs(LLAMA, lanes=8).values()) == {PartitionSpec()}


def test_a_model_on_a_mesh_of_one_device_is_unchanged(tmp_path):
    decoder = Decoder(dataclasses.replace(NEOX, num_layers=1), rngs=nnx.Rngs(0))
    port.save(decoder, tmp_path, dtype="float32")
    loaded = port.load(tmp_path, mesh=MeshShape(lanes=1).make())
    jax.tree.map(np.testing.assert_array_equal, loaded, decoder)
