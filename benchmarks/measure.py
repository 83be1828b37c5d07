"""What the benchmarks share: the machine, its matrix rate, the FLOPs of a pass, and how results are kept."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcram.cram.lanes import Bucket
from jaxcram.devices import mesh
from jaxcram.models.decoder import Decoder

ROOT = Path(__file__).resolve().parents[1]
# Processes ready to run before this program has done anything: neighbours.
LOAD_BEFORE = round(os.getloadavg()[0], 2)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, marked where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, Any]:
    """What a figure cannot be read without; `load`, processes ready to run at the start, tells of neighbours.

    It starts JAX, which takes most of a GPU's memory: who times other processes asks after them.
    """
    mesh.use_cores()  # asking JAX for its devices starts it, and fixes how many there are
    return {
        "cpu": mesh.cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": LOAD_BEFORE,
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "jax": _version("jax"),
        "torch": _version("torch"),
        "commit": _commit(),
    }


def matmul_rate(dtype: Any, *, size: int = 0, repeats: int = 8) -> float:
    """FLOP/s of one large matrix product on the default device, the best of `repeats`.

    Args:
        dtype: of both factors and the product.
        size: rows of the square factors; 0 takes 2048 on CPU and 8192 elsewhere.
        repeats: measurements; the best one is what the machine can do.
    """
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    # Random, for a GPU draws less power, and so runs faster, on numbers that are all the same.
    factor = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(factor, factor).block_until_ready()
    return 2 * size**3 / min(seconds(lambda: product(factor, factor).block_until_ready(), repeats))


def seconds(action: Any, repeats: int) -> list[float]:
    """Wall time of each of `repeats` calls of `action`, which must wait for its own result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def pass_flops(model: Decoder, bucket: Bucket, num_memory: int = 1) -> int:
    """Model FLOPs of one forward-and-backward pass over a bucket of B lanes with T target tokens.

    With S = K + T - 1 positions and P matrix weights in a layer:

        B * ( L * (4 * S * P  +  12 * S^2 * H * C)  +  4 * T * V * D )

    Weights are frozen, so a product y = x W costs 2 S P forward and 2 S P for the gradient towards x, and
    nothing for W: two forward-equivalents, where training has three. Attention's two products (scores,
    values) have two gradients each, so 3 * 4 S^2 H C; the square is counted whole, its masked half included,
    as is customary. The head is one product forward and one back. Element-wise work is left out, and
    recomputing is not model work.
    """
    config = model.config
    # Of one layer: matrices have two axes, norms and biases one.
    layer = jax.eval_shape(lambda model: model.blocks[0], model)
    layer_weights = config.num_layers * sum(leaf.size for leaf in jax.tree.leaves(layer) if leaf.ndim == 2)
    positions = num_memory + bucket.tokens - 1
    attention = 12 * config.num_layers * positions**2 * config.num_heads * config.head_size
    head = 4 * bucket.tokens * config.vocab_size * config.width
    return bucket.lanes * (4 * positions * layer_weights + attention + head)


def write_json_lines(records: Sequence[Mapping[str, Any]], path: str | None) -> None:
    """Append one JSON line a record to the file `path`; nothing where it is None or empty."""
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, default=_plain) + "\n" for record in records)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in a JSON line")


def table(records: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Records as aligned text; `columns`: field to format, as in {"wall_s": ".1f"}; None shows as a dash."""
    rows = [list(columns)]
    for record in records:
        values = [(record[name], spec) for name, spec in columns.items()]
        rows.append(["-" if value is None else format(value, spec) for value, spec in values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
