"""Loads and saves Hugging Face checkpoints: config.json and safetensors, without torch and without pickle.

Each parameter is read in pieces into a preallocated stack of all layers, and cast while reading. Only shards
on devices of this process are read, each once, even if several devices hold it. On CPU, XLA adopts the
buffer without a copy. So loading on CPU needs little more host memory than the weights themselves, elsewhere
only that of the largest parameter.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from safetensors.numpy import save_file

from jaxcram import hub
from jaxcram.errors import UserError
from jaxcram.models.config import DecoderConfig
from jaxcram.models.decoder import Decoder
from jaxcram.models.digest import weights_digest
from jaxcram.models.fields import end_tokens
from jaxcram.models.registry import read_config
from jaxcram.models.sharding import shardings
from jaxcram.models.tensors import STORED_DTYPES, Bounds, Tensor, open_tensors, read_json

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_HUB_FILES = ("*.safetensors", "*.safetensors.index.json", *hub.TOKENIZER_FILES)
_TOKEN_IDS = {"bos_token_id", "eos_token_ids"}  # fields of a config that the forward pass does not read
_ALIGNMENT = 64  # bytes; XLA on CPU adopts host buffers with this alignment instead of copying them


def bundled_model() -> Path:
    """The directory of the model that comes with the package (mini-llama)."""
    return Path(__file__).parent / "mini"


def load(
    path_or_hub_name: str | os.PathLike[str], *, dtype: str | None = None, mesh: Mesh | None = None
) -> Decoder:
    """Loads a checkpoint directory, or a model of the Hugging Face Hub, as a decoder.

    Args:
        path_or_hub_name: the directory, or owner/name.
        dtype: "float32" or "bfloat16"; None means bfloat16 on accelerators, and float32 on CPU (which
            computes in fp32 anyway).
        mesh: shards the weights (see `models.sharding`); None puts them on the default device.

    Raises:
        UserError: before any tensor is read: there is no such model, no safetensors file or more than one
            checkpoint in the directory; the family or a config value is not supported; tensors are missing,
            left over, or of the wrong shape or dtype; a file is damaged; the mesh does not divide the model.
            While reading: a value is not finite, or overflows in `dtype`.
    """
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; choose one of: {', '.join(DTYPES)}")
    directory = find_checkpoint(path_or_hub_name)
    config_file = directory / "config.json"
    config = read_config(read_json(config_file), str(config_file))
    if (generation := directory / "generation_config.json").exists():
        config = dataclasses.replace(config, eos_token_ids=end_tokens(read_json(generation), str(generation)))
    tensors = open_tensors(directory)
    _check_size(config, tensors, config_file)
    abstract = jax.eval_shape(lambda: Decoder(config, dtype=DTYPES[dtype], rngs=nnx.Rngs(0)))
    leaves, structure = jax.tree.flatten_with_path(abstract)
    sources = _match(config, {_name(path): leaf.shape for path, leaf in leaves}, tensors, directory)
    shapes = {_name(path): leaf.shape for path, leaf in leaves}
    by_path = {} if mesh is None else shardings(config, shapes, mesh)
    return jax.tree.unflatten(
        structure, [_load(sources[_name(path)], leaf, by_path.get(_name(path))) for path, leaf in leaves]
    )


def contents(directory: Path) -> dict[str, Any]:
    """The identity of a checkpoint, as runs record it: its config, without token ids, and a weights digest.

    Raises:
        UserError: as `load`, for the same files.
    """
    config_file = directory / "config.json"
    config = dataclasses.asdict(read_config(read_json(config_file), str(config_file)))
    numbers = {name: value for name, value in config.items() if name not in _TOKEN_IDS}
    numbers = json.loads(json.dumps(numbers))  # as it reads back: lists, no tuples
    return {"config": numbers, "weights": weights_digest(open_tensors(directory).values())}


def place(decoder: Decoder, mesh: Mesh) -> Decoder:
    """The decoder with its weights on the devices of a mesh, as `load` places them.

    Raises:
        UserError: the mesh does not divide the model.
    """
    leaves, structure = jax.tree.flatten_with_path(decoder)
    by_path = shardings(decoder.config, {_name(path): leaf.shape for path, leaf in leaves}, mesh)
    return jax.tree.unflatten(
        structure, [jax.device_put(leaf, by_path[_name(path)]) for path, leaf in leaves]
    )


def save(decoder: Decoder, directory: str | os.PathLike[str], *, dtype: str = "bfloat16") -> None:
    """Writes config.json and model.safetensors in Hugging Face's layout, for transformers and for `load`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for path, leaf in jax.tree.flatten_with_path(decoder)[0]:
        values = np.asarray(leaf).astype(DTYPES[dtype])
        names = _stored_names(decoder.config, _name(path))[0]
        stacked = "{}" in names
        for layer in range(decoder.config.num_layers if stacked else 1):
            tensors[names.format(layer)] = values[layer] if stacked else values
    partial = directory / "model.safetensors.partial"
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = partial.stat().st_mode  # permissions by the umask; safetensors would make the file private
    save_file(tensors, partial, metadata={"format": "pt"})  # required by transformers
    partial.chmod(mode)
    fields = decoder.config.to_fields() | {"torch_dtype": dtype}
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    partial.replace(directory / "model.safetensors")


def find_checkpoint(path_or_hub_name: str | os.PathLike[str]) -> Path:
    """The local directory of a checkpoint; a model of the Hub is downloaded first, without pickle files."""
    return hub.model_directory(path_or_hub_name, _HUB_FILES)


def _check_size(config: DecoderConfig, tensors: Mapping[str, Tensor], config_file: Path) -> None:
    """Refuses a config.json that implies far more parameters than stored, before anything is allocated.

    Smaller differences are left to `_match`, which names the tensors.
    """
    implied, stored = config.least_parameters, sum(math.prod(tensor.shape) for tensor in tensors.values())
    if config.num_layers > len(tensors) or implied > 10 * stored:
        raise UserError(
            f"{config_file}: implies {config.num_layers} layers and at least {implied} parameters, but the "
            f"checkpoint has {len(tensors)} tensors and {stored} parameters; give files that belong together"
        )


def _match(
    config: DecoderConfig,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Tensor],
    directory: Path,
) -> dict[str, list[Tensor]]:
    """The stored tensors of every parameter, one per layer if stacked; none may be missing or left over."""
    sources: dict[str, list[Tensor]] = {}
    unfilled: list[str] = []
    unmapped = {name for name in tensors if not re.fullmatch(config.ignored_names, name)}
    for path, shape in shapes.items():
        alternatives = _stored_names(config, path)
        stacked = "{}" in alternatives[0]
        for layer in range(shape[0] if stacked else 1):
            names = [alternative.format(layer) for alternative in alternatives]
            found = next((name for name in names if name in tensors), None)
            if found is None:
                unfilled.append(names[0])
                continue
            unmapped.discard(found)
            _check(tensors[found], shape[1:] if stacked else shape)
            sources.setdefault(path, []).append(tensors[found])
    if config.tied_head and "embedding_VxD" in sources:
        # Some checkpoints store the tied matrix under both names; then both must be equal.
        (embedding,) = sources["embedding_VxD"]
        heads = unmapped.intersection(_stored_names(config, "untied_head_VxD"))
        unmapped -= {name for name in heads if tensors[name].equals(embedding)}
    if unmapped or unfilled:
        problems = [("lacks", unfilled), ("has, beyond its config.json,", sorted(unmapped))]
        listed = [f"{what} {len(names)} tensors: {', '.join(names)}" for what, names in problems if names]
        raise UserError(f"{directory}: this {config.family} checkpoint {'; it '.join(listed)}")
    return sources


def _check(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuses a tensor of another shape or of an unsupported dtype."""
    problem = None
    if tensor.shape != shape:
        problem = f"has shape {tensor.shape}, but config.json implies {shape}"
    elif tensor.dtype not in STORED_DTYPES.values():
        problem = f"has an unsupported dtype; supported: {', '.join(STORED_DTYPES)}"
    if problem:
        raise UserError(f"{tensor.file}: {tensor.name} {problem}")


def _load(tensors: list[Tensor], leaf: jax.ShapeDtypeStruct, sharding: NamedSharding | None) -> jax.Array:
    """One parameter, with all of its layers, on the devices of this process."""
    whole = tuple((0, size) for size in leaf.shape)
    if sharding is None:
        return jax.device_put(_read(tensors, leaf, whole)).block_until_ready()
    holders: dict[Bounds, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(leaf.shape).items():
        slices = zip(index or (), leaf.shape, strict=True)
        holders.setdefault(tuple(one.indices(size)[:2] for one, size in slices), []).append(device)
    shards = []
    for bounds, devices in holders.items():
        block = _read(tensors, leaf, bounds)
        # Wait, so that this host buffer is freed before the next one is allocated.
        shards += jax.block_until_ready([jax.device_put(block, device) for device in devices])
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)


def _read(tensors: list[Tensor], leaf: jax.ShapeDtypeStruct, bounds: Bounds) -> np.ndarray:
    """A block of one parameter; if it is stacked, it has a leading layer axis that its tensors lack."""
    shape = [last - first for first, last in bounds]
    size = math.prod(shape) * leaf.dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    block = raw[start : start + size].view(leaf.dtype).reshape(shape)
    if len(shape) == len(tensors[0].shape):
        tensors[0].read_into(block, bounds)
    else:
        for tensor, out in zip(tensors[slice(*bounds[0])], block, strict=True):
            tensor.read_into(out, bounds[1:])
    return block


def _name(path: tuple[Any, ...]) -> str:
    """A leaf's path in the decoder's pytree, as in the tables of the families."""
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")  # of the nnx.Param


def _stored_names(config: DecoderConfig, path: str) -> tuple[str, ...]:
    names = config.checkpoint_names[path]
    return (names,) if isinstance(names, str) else names
