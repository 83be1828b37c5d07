"""One checkpoint on both sides of a comparison: as a decoder of jaxcram and as a Hugging Face model."""

from __future__ import annotations

import dataclasses

import jax
import torch
from transformers import PreTrainedModel

from common import shapes, torch_reference
from common.program import Workload
from jaxcram.devices import mesh
from jaxcram.models import port
from jaxcram.models.decoder import Decoder


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """The two sides: one checkpoint as a decoder and as a Hugging Face model."""

    model: Decoder
    torch_model: PreTrainedModel


def load_pair(work: Workload) -> Pair:
    """The workload's checkpoint on both sides, on the same device and in the same dtype."""
    model = work.decoder()
    directory, dtype = port.find_checkpoint(work.model_path), getattr(torch, model.dtype.name)
    return Pair(model, torch_reference.load(directory, device=_torch_device(), dtype=dtype))


def random_pair(shape: str, dtype: str | None) -> Pair:
    """Two unrelated models of random weights in one shape: good for timing."""
    mesh.use_cores()
    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    model = mesh.replicated(shapes.random_decoder(shape, dtype), mesh.MeshShape().make())
    device, theirs = _torch_device(), getattr(torch, dtype)
    return Pair(model, torch_reference.random_model(shapes.SHAPES[shape], device=device, dtype=theirs))


def _torch_device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"
