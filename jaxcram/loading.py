"""Models as a person names them: a directory, a Hub name, or the bundled one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxcram.devices import configuration, processes
from jaxcram.devices.compilation import use_cache
from jaxcram.devices.mesh import MeshShape, use_cores, use_memory
from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.results.paths import recorded
from jaxcram.text.tokens import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    pass

BUNDLED = "jaxcram:mini-llama"  # what runs record; no Hub name, and hardly a directory's


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A frozen decoder with its tokenizer.

    Attributes:
        decoder, tokenizer: its two parts.
        name: the directory or Hub name that it was loaded from; runs record it.
        contents: digests of weights and tokenizer, and the config's numbers, as runs record them; empty for
            a model that was not loaded from files.
    """

    decoder: Decoder
    tokenizer: Tokenizer
    name: str
    contents: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        config = self.decoder.config
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.decoder))
        return (
            f"Model({self.name!r}: {config.family}, {parameters / 1e6:.1f}M parameters, "
            f"{config.num_layers} layers of width {config.width}, {np.dtype(self.decoder.dtype)})"
        )


@configuration.pinned()
def load_model(
    name_or_dir: str | os.PathLike[str] | None = None,
    *,
    dtype: str | None = None,
    mesh: str = "lanes:-1,model:1",
) -> Model:
    """A Hugging Face directory or Hub name, or (None) the bundled model.

    Args:
        name_or_dir: where `config.json`, safetensors and `tokenizer.json` are.
        dtype: "float32" or "bfloat16"; None is fp32 on CPU and bf16 on accelerators.
        mesh: how lanes and weights are spread over the devices (see `jaxcram.devices.mesh`), such as
            "lanes:-1,model:4" or "lanes:-1,fsdp:8".

    Raises:
        UserError: no such model, one that is not supported, no such device, or a mesh that does not fit.
    """
    shape = MeshShape.parse(mesh)
    use_cache()
    use_cores()
    use_memory()
    configuration.start()
    name = recorded(os.fspath(name_or_dir)) if name_or_dir else BUNDLED
    with processes.together():
        place = port.find_checkpoint(_path(name))
        tokenizer = load_tokenizer(place)  # before the weights: it is cheap, and may be missing
        contents = port.contents(place) | {"tokenizer": tokenizer.digest}
        decoder = port.load(place, dtype=dtype, mesh=shape.make())
    return Model(decoder.for_backend(), tokenizer, name, contents)


def tokenizer_of(name_or_dir: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a model, without its weights.

    Args:
        name_or_dir: as `load_model` takes it, or as a run records it.

    Raises:
        UserError: there is no such model, or it has no tokenizer that can be read.
    """
    return load_tokenizer(_path(recorded(os.fspath(name_or_dir))))


def _path(name: str) -> str | Path:
    """The path or Hub name of a model that runs record by this name."""
    return port.bundled_model() if name == BUNDLED else name
