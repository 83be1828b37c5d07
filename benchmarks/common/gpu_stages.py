"""The stages of gpu.py: each runs in a process of its own and yields its measurements one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JaxRuntimeError

from common import passes, shapes
from jaxcram.cram.lanes import Bucket
from jaxcram.devices.compilation import CompileTime
from jaxcram.models import layers, port
from jaxcram.models.decoder import Decoder

DTYPE = jnp.bfloat16
REPEATS = 3
Records = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured of one model.

    Attributes:
        shape: name of the model's shape.
        lengths: target tokens T of the passes.
        token_budget: tokens B * T of each, over all lanes.
        extras: also with rematerialisation and with plain attention, at the longest length.
        sweep: budgets of the sweep, at the middle length.
        chunk_s: seconds that a timed chunk of passes should take, about.
    """

    shape: str
    lengths: tuple[int, ...] = (128, 512, 1024)
    token_budget: int = 16_384
    extras: bool = False
    sweep: tuple[int, ...] = (1024, 4096, 16_384, 65_536)
    chunk_s: float = 0.5

    def bucket(self, tokens: int) -> Bucket:
        """The pass with `tokens` in each lane that fills the budget."""
        return Bucket(tokens, max(1, self.token_budget // tokens))

    def chunk_passes(self, model: Decoder, bucket: Bucket, flops_per_s: float) -> int:
        """Passes of a chunk, if they run at 0.4 of the matrix rate."""
        return int(np.clip(0.4 * self.chunk_s * flops_per_s / passes.pass_flops(model, bucket), 2, 32))


def jax_passes(plan: Plan) -> Records:
    """Passes of jaxcram at every length."""
    model, rate = _decoder(plan), passes.matmul_rate(DTYPE)
    longest = plan.bucket(plan.lengths[-1])
    # The peak of memory is that of the process so far, so the smallest goes first.
    if plan.extras:
        yield _jax_pass(plan, model, longest, rate, remat=True)
    for tokens in reversed(plan.lengths):
        yield _jax_pass(plan, model, plan.bucket(tokens), rate)
    if plan.extras:
        with _plain_attention():
            yield _jax_pass(plan, model, longest, rate, measurement="plain")


def sweep(plan: Plan) -> Records:
    """Passes of one length with a growing number of lanes: how many does a GPU need to be busy?"""
    model, rate = _decoder(plan), passes.matmul_rate(DTYPE)
    for budget in plan.sweep:
        bucket = dataclasses.replace(plan, token_budget=budget).bucket(plan.lengths[len(plan.lengths) // 2])
        yield _jax_pass(plan, model, bucket, rate, measurement="sweep")


def torch_passes(plan: Plan) -> Records:
    """Passes of the PyTorch reference at every length."""
    import torch

    from common import torch_reference

    cuda = torch.cuda.is_available()
    fields, device = shapes.SHAPES[plan.shape], "cuda" if cuda else "cpu"
    model = torch_reference.random_model(fields, device=device, dtype=torch.bfloat16)
    counted = shapes.abstract(plan.shape, DTYPE)
    rate = _torch_matmul_rate(torch, model.device)

    def timed(bucket: Bucket) -> dict[str, Any]:
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        count = max(2, plan.chunk_passes(counted, bucket, rate) // 2)
        action = torch_reference.timed_passes(model, bucket, count)
        wall_s = min(passes.seconds(action, REPEATS)) / count
        peak = torch.cuda.max_memory_allocated() if cuda else None
        return _rates("torch_pass", plan, bucket, counted, wall_s, rate) | {"peak_bytes": peak}

    for tokens in reversed(plan.lengths):
        yield _halved_until_it_fits(timed, plan.bucket(tokens))


def numerics(plan: Plan) -> Records:
    """Attention's two paths against fp32, and logits against PyTorch's, of small models."""
    yield from _attention_paths(plan)
    for shape in ("tiny-llama", "tiny-neox"):
        yield _logits(shape)


STAGES = {"numerics": numerics, "jax": jax_passes, "torch": torch_passes, "sweep": sweep}


def _decoder(plan: Plan) -> Decoder:
    return jax.block_until_ready(shapes.random_decoder(plan.shape, DTYPE))


def _jax_pass(
    plan: Plan, model: Decoder, bucket: Bucket, rate: float, *, remat: bool = False, measurement: str = "pass"
) -> dict[str, Any]:
    def timed(bucket: Bucket) -> dict[str, Any]:
        count = plan.chunk_passes(model, bucket, rate)
        start = time.perf_counter()
        with CompileTime() as compile_time:
            chunk = passes.full_bucket(model, bucket, chunk_passes=count, remat=remat)
        first_s = time.perf_counter() - start
        wall_s = min(chunk().wall_s for _ in range(REPEATS)) / count
        stats = jax.local_devices()[0].memory_stats() or {}
        config = model.config
        query = jax.ShapeDtypeStruct((bucket.lanes, bucket.tokens, config.num_heads, config.head_size), DTYPE)
        return _rates(measurement, plan, bucket, model, wall_s, rate) | {
            "remat": remat,
            "attention": layers.attention_implementation(query),
            "compile_s": compile_time.spent_s,
            "first_chunk_s": first_s,
            "peak_bytes": stats.get("peak_bytes_in_use"),
        }

    return _halved_until_it_fits(timed, bucket)


def _rates(
    measurement: str, plan: Plan, bucket: Bucket, model: Decoder, wall_s: float, rate: float
) -> dict[str, Any]:
    flops_per_s = passes.pass_flops(model, bucket) / wall_s
    return {
        "measurement": measurement,
        "shape": plan.shape,
        **bucket._asdict(),
        "pass_s": wall_s,
        "passes_per_s": 1 / wall_s,
        "tokens_per_s": bucket.lanes * bucket.tokens / wall_s,
        "model_flops_per_s": flops_per_s,
        "matmul_flops_per_s": rate,
        "matmul_share": flops_per_s / rate,
    }


def _halved_until_it_fits(timed: Callable[[Bucket], dict[str, Any]], bucket: Bucket) -> dict[str, Any]:
    """A measurement with fewer lanes where memory does not suffice."""
    while True:
        try:
            return timed(bucket)
        except (JaxRuntimeError, RuntimeError) as error:  # torch's error is a RuntimeError
            if not re.search("RESOURCE_EXHAUSTED|out of memory", str(error), re.I) or bucket.lanes == 1:
                raise
        gc.collect()
        bucket = bucket._replace(lanes=bucket.lanes // 2)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Inside, attention takes the plain path on every device."""
    jax.clear_caches()  # or programs traced before would be used again
    with mock.patch.object(layers, "attention_implementation", return_value="plain"):
        yield
    jax.clear_caches()


def _torch_matmul_rate(torch: Any, device: Any) -> float:
    size = 8192 if device.type == "cuda" else 256
    factor = torch.randn(size, size, dtype=torch.bfloat16, device=device)

    def product() -> None:
        (factor @ factor)[0, 0].item()

    product()
    return 2 * size**3 / min(passes.seconds(product, 8))


def _attention_paths(plan: Plan) -> Records:
    """Output and gradients of causal attention by either path, in bf16, against the plain one in fp32."""
    config, tokens = shapes.config(plan.shape), plan.lengths[-1]
    heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    rng = np.random.default_rng(0)
    lanes = plan.bucket(tokens).lanes
    qkv = [jnp.asarray(rng.normal(size=(lanes, tokens, n, config.head_size)), DTYPE) for n in heads]

    def gradients(*qkv: jax.Array) -> tuple[jax.Array, ...]:
        attended, pull_back = jax.vjp(layers.attend, *qkv)
        return attended, *pull_back(jnp.cos(attended.astype(jnp.float32) * 8).astype(attended.dtype))

    exact = jax.jit(gradients)(*(x.astype(jnp.float32) for x in qkv))
    for forced in (False, True):
        with _plain_attention() if forced else contextlib.nullcontext():
            compiled = jax.jit(gradients).lower(*qkv).compile()
            path = layers.attention_implementation(qkv[0])
        found = compiled(*qkv)
        wall_s = min(passes.seconds(functools.partial(_wait, compiled, qkv), REPEATS))
        errors = [_relative(one, other) for one, other in zip(found, exact, strict=True)]
        yield {
            "measurement": "attention",
            "shape": plan.shape,
            "lanes": lanes,
            "tokens": tokens,
            "attention": path,
            "kernels": sorted(set(re.findall(r"__cudnn\$\w+", compiled.as_text()))),
            "pass_s": wall_s,
            **dict(zip(("output_error", "query_error", "key_error", "value_error"), errors, strict=True)),
        }


def _wait(function: Callable[..., Any], arguments: list[jax.Array]) -> None:
    jax.block_until_ready(function(*arguments))


def _relative(found: Any, exact: Any) -> float:
    found, exact = np.asarray(found, np.float32), np.asarray(exact, np.float32)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _logits(shape: str) -> dict[str, Any]:
    """One checkpoint on both sides: errors of bf16 logits against PyTorch's in fp32."""
    import torch

    from common import torch_reference

    model = _decoder(Plan(shape))
    tokens_BxT = np.random.default_rng(0).integers(0, model.config.vocab_size, (4, 128))
    found = jax.jit(lambda model, tokens: model.logits(model(model.embed(tokens))))(model, tokens_BxT)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs = {}
    with tempfile.TemporaryDirectory() as directory:
        port.save(model, directory)
        for dtype in (torch.float32, torch.bfloat16):
            twin = torch_reference.load(directory, device=device, dtype=dtype)
            with torch.no_grad():
                logits = twin(torch.as_tensor(tokens_BxT, device=device), use_cache=False).logits
            theirs[dtype] = logits.float().cpu().numpy()
    exact = theirs[torch.float32]
    return {
        "measurement": "logits",
        "shape": shape,
        "jaxcram_error": _relative(found, exact),
        "torch_error": _relative(theirs[torch.bfloat16], exact),
        "same_argmax": float(np.mean(np.argmax(found, -1) == np.argmax(exact, -1))),
    }
