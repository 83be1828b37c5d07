"""The published shapes, and decoders of random weights in them."""

import jax
import jax.numpy as jnp
import pytest

from common import shapes
from jaxcram.errors import UserError
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig


def test_the_shapes_are_the_published_models():
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(shapes.abstract(name, jnp.bfloat16)))
        for name in shapes.SHAPES
        if not name.startswith("tiny")
    }
    # As counted on the published checkpoints, each parameter once.
    assert sizes == {
        "smollm2-135m": 134_515_008,
        "smollm2-1.7b": 1_711_376_384,
        "pythia-1.4b": 1_414_647_808,
        "llama3.1-8b": 8_030_261_248,
        "gemma3-4b": 3_880_263_168,  # without the images' part
        "qwen3-8b": 8_190_735_360,
        "smollm3-3b": 3_075_098_624,
    }
    assert isinstance(shapes.config("llama3.1-8b"), LlamaConfig)
    assert isinstance(shapes.config("pythia-1.4b"), NeoXConfig)


@pytest.mark.parametrize("shape", ["tiny-llama", "tiny-neox"])
def test_random_weights_have_the_shape_asked_for(shape):
    model, wanted = shapes.random_decoder(shape, jnp.bfloat16), shapes.abstract(shape, jnp.bfloat16)
    same = zip(jax.tree.leaves(model), jax.tree.leaves(wanted), strict=True)
    assert all((one.shape, one.dtype) == (other.shape, other.dtype) for one, other in same)
    out_LxDxN = model.layers.out.weight[...].astype(jnp.float32)
    assert out_LxDxN.std() == pytest.approx(out_LxDxN.shape[-1] ** -0.5, rel=0.05)
    assert (out_LxDxN[0] != out_LxDxN[1]).mean() > 0.9
    assert (model.final_norm.weight[...] == 1).all()


def test_an_unknown_shape_is_named():
    with pytest.raises(UserError, match="shape 'gpt5' is unknown"):
        shapes.config("gpt5")
