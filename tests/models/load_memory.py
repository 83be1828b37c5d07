"""Host memory that loading a checkpoint takes, as a multiple of the checkpoint's size.

    python tests/models/load_memory.py --megabytes=1000        (Linux; prints one JSON line)

Writes a random sharded Llama checkpoint in bf16 and loads it in bf16 in a process of its own. Counted is that
process's peak of resident memory, less the peak before loading, with all libraries imported and JAX started.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARD_BYTES = 250_000_000


def write_checkpoint(directory: Path, megabytes: int) -> int:
    """Fill a directory with a checkpoint of about that size; returns its exact bytes."""
    import jax
    import ml_dtypes
    import numpy as np
    from flax import nnx
    from safetensors.numpy import save_file

    from jaxcram.models.decoder import Decoder
    from jaxcram.models.llama import LlamaConfig

    sizes = {"vocab_size": 32_000, "width": 1536, "mlp_width": 4096, "max_positions": 2048, "norm_eps": 1e-5}
    heads = {"num_heads": 12, "num_kv_heads": 3, "head_size": 128}
    num_layers = max(1, round((megabytes * 1e6 / 2 - 49.2e6) / 24.8e6))
    config = LlamaConfig(**sizes, **heads, num_layers=num_layers, tied_head=True)
    noise = np.random.default_rng(0).integers(0, 1 << 14, 1 << 20, dtype=np.uint16).view(ml_dtypes.bfloat16)
    shards: list[dict[str, np.ndarray]] = [{}]
    abstract = jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    for path, leaf in jax.tree.flatten_with_path(abstract)[0]:
        name = str(
            config.checkpoint_names[jax.tree_util.keystr(path, simple=True, separator=".")[: -len(".value")]]
        )
        for layer in range(num_layers if "{}" in name else 1):
            shape = leaf.shape[1:] if "{}" in name else leaf.shape
            if sum(tensor.nbytes for tensor in shards[-1].values()) > SHARD_BYTES:
                shards.append({})
            shards[-1][name.format(layer)] = np.resize(noise, shape)
    weight_map = {}
    for number, tensors in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(tensors, directory / file)
        weight_map |= dict.fromkeys(tensors, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "config.json").write_text(json.dumps(config.to_fields()))
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def peak_bytes() -> int:
    """Peak of this process's resident memory; not ru_maxrss, which a child inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def measure(directory: Path) -> dict[str, float]:
    """Load the checkpoint in this process."""
    import jax

    from jaxcram.models import port

    jax.block_until_ready(jax.numpy.ones(8) + 1)
    before = peak_bytes()
    start = time.perf_counter()
    decoder = port.load(directory, dtype="bfloat16")
    jax.block_until_ready(decoder)
    seconds = time.perf_counter() - start
    return {"baseline_bytes": before, "load_bytes": peak_bytes() - before, "seconds": seconds}


def main() -> None:
    """Print the measurement as one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the checkpoint")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    with tempfile.TemporaryDirectory() as directory:
        size = write_checkpoint(Path(directory), args.megabytes)
        command = [sys.executable, __file__, "--measure", directory]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = {"checkpoint_bytes": size, **json.loads(output)}
    print(json.dumps(result | {"ratio": result["load_bytes"] / size}))


if __name__ == "__main__":
    main()
