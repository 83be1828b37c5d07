"""The valid things that cases start from: two models of a few kilobytes, a tokenizer, a finished run."""

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
from flax import nnx
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from jaxcram import api
from jaxcram.cram import verify
from jaxcram.cram.rows import Outcome
from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.models.llama import LlamaConfig
from jaxcram.models.neox import NeoXConfig
from jaxcram.models.rope import Llama3Scaling
from jaxcram.results.directory import RunDirectory
from jaxcram.results.table import Job

WIDTH, POSITIONS = 8, 64
_SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "width": WIDTH,
    "num_layers": 2,
    "num_heads": 2,
    "head_size": 4,
    "mlp_width": 12,
    "max_positions": POSITIONS,
    "norm_eps": 1e-5,
    "bos_token_id": 256,
    "eos_token_ids": (257,),
}
_CONFIGS = {
    "llama": LlamaConfig(
        **_SIZES, num_kv_heads=1, tied_head=True, rope_scaling=Llama3Scaling(8.0, 1.0, 4.0, 32), mlp_bias=True
    ),
    "neox": NeoXConfig(**_SIZES, num_kv_heads=2, tied_head=False, rotary_fraction=0.5),
}


@functools.cache
def _kept() -> Path:
    return Path(tempfile.mkdtemp(prefix="hostile-valid-"))


@functools.cache
def _model(name: str) -> Path:
    folder = _kept() / name
    shapes = jax.eval_shape(lambda: Decoder(_CONFIGS[name], dtype=jnp.float32, rngs=nnx.Rngs(0)))
    port.save(jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes), folder, dtype="float32")
    _tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "special": True},
        "chat_template": "{{ x }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _tokenizer() -> Tokenizer:
    """Byte-level BPE with every part that tokenizer.json may have."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {byte: i for i, byte in enumerate(alphabet)} | {"<s>": 256, "</s>": 257, "th": 258, "the": 259}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h"), ("th", "e")]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex("  +"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s?\w+|[^\w]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    tokenizer.enable_truncation(40)
    tokenizer.enable_padding()
    return tokenizer


def model(name: str, folder: Path) -> Path:
    """A copy of a model to be spoilt."""
    return Path(shutil.copytree(_model(name), folder / "model"))


def tree(name: str, file: str) -> Any:
    """A JSON file of a model."""
    return json.loads((_model(name) / file).read_text())


SETTINGS = {
    "model": api.BUNDLED,
    "dtype": "float32",
    "mode": "progressive",
    "learning_rates": [0.1, 1.0],
    "caps": {"sample": 10, "token": 5},
}
JOBS = [Job(sample, rate, 0) for sample in range(2) for rate in (0.1, 1.0)]
TARGET = [256, 5, 6, 7]


def lane_rows(job: Job) -> list[dict[str, Any]]:
    """The rows of a lane that got three of four tokens."""
    first = {
        "initialization_embedding": np.zeros((1, WIDTH), np.float32),
        "text": "abc",
        "target_ids": TARGET,
    }
    return [
        {
            "sample_id": job.sample_id,
            "learning_rate": job.learning_rate,
            "seed": job.seed,
            "stage_index": i,
            "stage_seq_len": i + 1,
            "num_input_tokens": len(TARGET),
            "exact": i < 3,
            "exact_prefix": min(i + 1, 3),
            "steps": i,
            "steps_taken": i * (i + 1) // 2,
            "final_loss": 0.5,
            "final_convergence": 1.0 if i < 3 else 0.75,
            "information_gain_bits": 2.5 * i,
            "surprisal_bits": 3.0,
            "embedding": np.full((1, WIDTH), i, np.float32),
            "bucket_tokens": 16,
            "bucket_lanes": 4,
            "stop_reason": "stage_cap" if i == 3 else None,
            **(first if i == 0 else {}),
        }
        for i in range(4)
    ]


@functools.cache
def _run() -> Path:
    folder = _kept() / "run"
    target = np.array(TARGET)
    lanes = []
    with RunDirectory.open(folder, SETTINGS) as run:
        for job in JOBS:
            rows = lane_rows(job)
            run.write_lane(job, rows)
            run.log({"event": "lane", "lane": job.key})
            decoded = dict.fromkeys(("teacher_forced", "exact", "cached"), target[:3])
            lanes.append(
                {"kind": "story"} | verify.lane_summary(Outcome.of(rows, "progressive"), decoded, target)
            )
        run.write_summary(summary(lanes))
    return folder


def summary(lanes: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary.json of a run."""
    example = {
        "sample_id": 0,
        "learning_rate": 0.1,
        "seed": 0,
        "original": "ab",
        "decoded": "ab",
        "identical": True,
    }
    return {
        "lanes": lanes,
        "example": example,
        "wall_s": 1.5,
        "compile_s": 1.0,
        "compile_saved_s": 0.0,
        "passes": 10,
        "lane_steps": 40,
        "useful_share": 0.5,
        "token_budget": 64,
        "model": api.BUNDLED,
        "mode": "progressive",
        "versions": {"python": "3"},
        "devices": ["cpu: cpu"],
    }


def run(folder: Path) -> Path:
    """A copy of a finished run to be spoilt."""
    return Path(shutil.copytree(_run(), folder / "run"))


@functools.cache
def prepare() -> None:
    """Makes everything and imports what imports late, so that the first case does not pay for it."""
    import datasets  # noqa: F401
    import matplotlib.figure  # noqa: F401

    for name in _CONFIGS:
        port.load(_model(name), dtype="float32")
    for shard in (_run() / "rows").iterdir():
        pq.read_table(shard)
