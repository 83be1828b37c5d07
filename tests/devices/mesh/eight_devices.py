"""Measures what tests of the mesh ask about, on 8 virtual devices, and prints it as one line of JSON.

A process of its own, since JAX fixes the number of devices when it starts.
"""

import contextlib
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcram.cram import chunk, lanes
from jaxcram.cram.engine import Engine
from jaxcram.cram.fit import fit_run
from jaxcram.cram.groups import DeviceGroups
from jaxcram.cram.rows import Ended
from jaxcram.cram.settings import CramSettings, OptimizerSettings, StageSettings
from jaxcram.cram.start import jobs_of
from jaxcram.devices import mesh
from jaxcram.devices.mesh import MeshShape
from jaxcram.devices.packed import Packed
from jaxcram.models import port
from jaxcram.models.config import DecoderConfig
from jaxcram.models.decoder import Decoder
from jaxcram.models.gemma import GemmaConfig
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.text.tokens import Sample, load_tokenizer

SIZES = {"width": 32, "num_layers": 2, "num_heads": 4, "head_size": 8, "mlp_width": 64, "norm_eps": 1e-5}
CONFIGS = {
    # Key and value heads are fewer than 4 devices, and 50 tokens are no multiple of them: both stay whole.
    "llama": LlamaConfig(
        **SIZES, vocab_size=48, num_kv_heads=2, max_positions=64, tied_head=True, attention_bias=True
    ),
    "neox": NeoXConfig(**SIZES, vocab_size=50, num_kv_heads=4, max_positions=64, tied_head=False),
    # One key head, and windows shorter than the tokens.
    "gemma": GemmaConfig(
        **SIZES, vocab_size=48, num_kv_heads=1, max_positions=64, tied_head=True, windows=(5, None)
    ),
}
STORIES = (
    "It was a hot summer afternoon, and while the sun",
    "One day a little girl named Lily went to the park",
)
COLLECTIVE = (
    r" (all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)(?:-start)?\("
)


def on(text: str, directory: Path) -> Decoder:
    """A checkpoint on the mesh that `text` describes."""
    return port.load(directory, mesh=MeshShape.parse(text).make())


def random_model(config: DecoderConfig, directory: Path) -> Path:
    """A checkpoint of weights large enough that what the model says depends on what it reads."""
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    weights = jax.tree.map(lambda x: rng.normal(0.2, 0.2, x.shape).astype(np.float32), abstract)
    port.save(weights, directory, dtype="float32")
    return directory


def collectives(model: Decoder) -> dict[str, dict[str, int]]:
    """Collective operations of the compiled chunk, inside its loops and outside; the bytes that it reuses."""
    devices = mesh.of(model)
    seats = 2 * mesh.places(devices)
    procedure = lanes.PassSettings(chunk_passes=3)
    pool = lanes.init_pool(
        lanes.Problem(jnp.zeros((seats, 16), int), jnp.full(seats, 16), jnp.ones(seats)),
        jnp.zeros((seats, 1, 32)),
        procedure,
    )
    packed = mesh.replicated(Packed.of(pool, mesh.places(devices)), devices)
    program = chunk.run_chunk.lower(model, packed, lanes.Bucket(16, 2), procedure, devices).compile()
    text = program.as_text()
    blocks = dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    inside: set[str] = set()
    waiting = re.findall(r"(?:body|condition)=%([\w.-]+)", text)
    while waiting:
        name = waiting.pop()
        if name not in inside:
            inside.add(name)
            waiting += [other for other in re.findall(r"%([\w.-]+)", blocks[name]) if other in blocks]
    found: dict[str, Counter] = {"inside": Counter(), "outside": Counter()}
    for name, body in blocks.items():
        found["inside" if name in inside else "outside"].update(re.findall(COLLECTIVE, body))
    memory = {
        "seats": sum(leaf.nbytes for leaf in jax.tree.leaves(pool)),
        "reused": program.memory_analysis().alias_size_in_bytes,
    }
    counts = {where: dict(counts) for where, counts in found.items()}
    return {"loops": {"count": len(inside)}, "memory": memory, **counts}


def parts(model: Decoder) -> list[dict]:
    """What becomes of a model that is taken apart: devices, mesh, and whether weights are where they were."""

    def buffers(part: Decoder) -> set[int]:
        return {
            piece.data.unsafe_buffer_pointer()
            for leaf in jax.tree.leaves(part)
            for piece in leaf.addressable_shards
        }

    return [
        {
            "devices": [device.id for device in mesh.of(part).devices.flat],
            "mesh": list(mesh.of(part).shape.values()),
            "copied": not buffers(part) <= buffers(model),
        }
        for part in mesh.apart(model, 8)
    ]


@jax.jit
def squared(x: jax.Array, times: int) -> jax.Array:
    """Work of any length."""
    return jax.lax.fori_loop(0, times, lambda _, x: jnp.tanh(x @ x), x)


def overtakes(model: Decoder) -> bool:
    """Whether short work of a second device group finishes while long work of the first runs."""
    first, second, *_ = DeviceGroups(model, 2)._groups
    x = jnp.ones((128, 128))
    squared(x, 1).block_until_ready()
    long, short = (group.thread.submit(squared, x, n).result() for group, n in ((first, 5000), (second, 1)))
    short.block_until_ready()
    return not long.is_ready()


@contextlib.contextmanager
def taken_in_at_random() -> Iterator[None]:
    """The host takes in any chunk under way, not the first that ends."""
    wait, rng = DeviceGroups.wait, random.Random(0)
    with mock.patch.object(DeviceGroups, "wait", lambda self, turns: wait(self, [rng.choice(turns)])):
        yield


@jax.jit
def logits(model: Decoder, tokens_BxT: jax.Array) -> jax.Array:
    """Scores of a plain text."""
    return model.logits(model(model.embed(tokens_BxT)))


def crammed(model: Decoder, texts: Sequence[Sequence[int]], settings: CramSettings) -> dict[str, Ended]:
    """The lanes of a run over texts, given as tokens, with all embeddings and curves."""
    samples = [Sample(i, "", np.array(tokens, np.int32)) for i, tokens in enumerate(texts)]
    jobs = jobs_of(samples, settings)
    fit = fit_run(model, settings, [len(sample.tokens) for sample in samples])
    ended = Engine(model, samples, settings, jobs, fit).chunks(lambda progress: None)
    return {lane.outcome.job.key: lane for chunk in ended for lane in chunk}


def written(lanes_: dict[str, Ended]) -> dict[str, str]:
    """Rows and curves as text that differs wherever a bit does."""
    whole = {key: [repr(sorted(x.items())) for x in lane.rows + lane.curve] for key, lane in lanes_.items()}
    return {key: repr(texts) for key, texts in whole.items()}


def exact_prefixes(lanes_: dict[str, Ended]) -> dict[str, list[int]]:
    """Those of every lane."""
    return {key: [row["stage_seq_len"] for row in lane.rows if row["exact"]] for key, lane in lanes_.items()}


def settings(*learning_rates: float, steps: int) -> CramSettings:
    """Short lanes, two to a pass of 4 tokens, on one device as on four."""
    return CramSettings(
        learning_rates=learning_rates,
        token_budget=8,
        stages=StageSettings(max_steps=steps),
        optimizer=OptimizerSettings(warmup_steps=0),
        log_every=7,
    )


def main(folder: Path, programs_on: Sequence[str]) -> dict:
    """All measurements; with meshes in `programs_on`, those of the programs on these, and nothing else."""
    np.set_printoptions(threshold=sys.maxsize, floatmode="unique")
    checkpoints = {name: random_model(config, folder / name) for name, config in CONFIGS.items()}
    found: dict = {}
    found["collectives"] = {
        text: collectives(on(text, checkpoints["llama"]))
        for text in programs_on or ("lanes:8", "lanes:2,model:4", "lanes:4,fsdp:2")
    }
    if programs_on:
        return found

    # From here on it is about results, not programs; compiling these is most of the time.
    jax.config.update("jax_disable_most_optimizations", True)
    found["apart"] = {
        text: parts(on(text, checkpoints["llama"]))
        for text in ("lanes:8", "lanes:2,model:4", "lanes:4,fsdp:2")
    }

    # A busy machine may leave the short work lying; but of work in turn none ever overtakes.
    found["overtakes"] = any(overtakes(on("lanes:2", checkpoints["llama"])) for _ in range(20))

    tokens = np.random.default_rng(2).integers(0, 48, (4, 20))
    found["logits"] = {}
    for family, directory in checkpoints.items():
        whole = np.asarray(logits(on("lanes:1", directory), tokens))
        found["logits"][f"{family} spread"] = float(whole.std())
        for text in ("lanes:1,model:2", "lanes:1,model:4"):
            others = np.asarray(logits(on(text, directory), tokens))
            found["logits"][f"{family} {text}"] = float(np.abs(others - whole).max())

    # Two lanes of 16 tokens a pass, on however many devices.
    texts = np.random.default_rng(3).integers(0, 48, (4, 12)).tolist()
    found["rows"], found["programs"] = {}, {}
    for text in ("lanes:1", "lanes:2", "lanes:4"):
        ended = crammed(on(text, checkpoints["llama"]), texts, settings(0.1, 1.0, steps=30))
        found["rows"][text] = written(ended)
        found["programs"][text] = chunk.run_chunk._cache_size()
    with taken_in_at_random():
        ended = crammed(on("lanes:4", checkpoints["llama"]), texts, settings(0.1, 1.0, steps=30))
        found["rows"]["lanes:4, in any order"] = written(ended)
    bundled = port.bundled_model()
    tokenizer = load_tokenizer(str(bundled))
    stories = [tokenizer.encode(text)[:12] for text in STORIES]
    found["horizons"] = {
        text: exact_prefixes(crammed(on(text, bundled), stories, settings(0.05, 0.5, steps=60)))
        for text in ("lanes:1", "lanes:1,model:2", "lanes:1,model:4", "lanes:2,model:4")
    }
    return found


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(main(Path(folder), sys.argv[1:])))
