"""How much device memory does a pass of a large model take? Read from the compiled program; no GPU is needed.

    python benchmarks/memory.py --shape=llama3.1-8b --tokens=1568 --target=cuda --json=results.jsonl

The pass is compiled for bf16 weights that need not exist, and XLA tells what memory it takes
(`memory_analysis`). Three targets:

  cuda  the program of an H100, with cuDNN's attention. The compiler comes with the package's [cuda] extra.
        It does not count cuDNN's workspace, so the fp32 gradient of the queries, which the backward kernel
        sums up there, is added: `workspace_bytes`.
  tpu   the program of a TPU v5p, with the splash kernel; the compiler is the package libtpu.
  cpu   the program of this machine's CPU, which differs: bf16 products are computed in fp32, for which XLA
        converts whole weights, and attention stores all scores.

One line "pass" for each of `--lanes`, beside the estimate that decides on rematerialisation
(`jaxcram/cram/pass_bytes.py`: weights, what is stored for the backward pass, working memory; for target cpu
the estimate is of the GPU's program). One line "fit": the straight line through the peaks. And one line
"lanes" for each device size: the most lanes whose compiled peak fits into `--share` of it, and the most by
the estimate. GB are 10^9 bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the compilers of other targets need no device
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA warns of every pass that would not fit

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from common import program, shapes
from jaxcram.cli.flags import Doc
from jaxcram.cram import lanes, pass_bytes
from jaxcram.cram.lanes import Bucket, PassSettings
from jaxcram.devices import private
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.models.layers import attention_implementation

# What XLA's compiler asks of a GPU: the H100's published numbers, as CUDA's device properties give them.
H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def as_if_on_tpu() -> contextlib.AbstractContextManager[Any]:
    """Inside, a trace takes the code paths of a TPU, the splash kernel included, on any machine."""
    return mock.patch.object(jax, "default_backend", return_value="tpu")


@contextlib.contextmanager
def as_if_on_gpu() -> Iterator[None]:
    """Inside, a trace takes the code paths of a Hopper GPU, cuDNN's attention included, on any machine."""
    cudnn = private.cudnn_attention()
    with (
        mock.patch.object(jax, "default_backend", return_value="gpu"),
        mock.patch.object(cudnn, "check_cudnn_version", return_value=91000),
        mock.patch.object(cudnn, "check_compute_capability", lambda wanted: float(wanted) <= 9.0),
        mock.patch.object(cudnn, "is_cuda_compute_capability_equal", lambda wanted: wanted == "9.0"),
    ):
        yield


AS_IF = {"cpu": contextlib.nullcontext, "cuda": as_if_on_gpu, "tpu": as_if_on_tpu}
TARGETS = tuple(AS_IF)
NEEDED = {"cuda": ("jax_plugins.xla_cuda13", "jaxcram[cuda]"), "tpu": ("libtpu", "libtpu")}


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    shape: str = "llama3.1-8b"
    tokens: int = 1568
    num_memory: int = 1
    lanes: tuple[int, ...] = (4, 8, 16)
    device_gb: tuple[int, ...] = (16, 24, 80, 141)
    share: float = 0.9
    target: str = "cpu"
    json: str | None = None

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise UserError(f"--target={self.target}: choose one of {', '.join(TARGETS)}")
        if len(set(self.lanes)) < 2 or min(self.lanes) < 1:
            raise UserError(f"--lanes={','.join(map(str, self.lanes))}: name at least two numbers of lanes")
        if not 0 < self.share <= 1:
            raise UserError(f"--share={self.share}: must be greater than 0 and at most 1")


TOPICS = {
    "Pass": {
        "shape": Doc(f"One of {', '.join(shapes.SHAPES)}"),
        "tokens": Doc("Target tokens of a lane", "tokens"),
        "num_memory": Doc("Memory embeddings of a lane"),
        "lanes": Doc("Passes to compile and to fit a line to", "lanes"),
    },
    "Device": {
        "device_gb": Doc("Sizes of devices", "GB"),
        "share": Doc("Part of a device's memory that a pass may take"),
        "target": Doc(f"What to compile for: {', '.join(TARGETS)}"),
    },
    "Results": program.RESULTS,
}
PASS_COLUMNS = {
    **{"lanes": "", "remat": "", "attention": "", "compiled_gb": ".2f", "account_gb": ".2f"},
    **{"weights_gb": ".2f", "stored_gb": ".2f", "working_gb": ".2f", "compile_s": ".1f"},
}
LANES_COLUMNS = {"device_gb": "", "remat": "", "lanes": "", "compiled_gb": ".2f", "account_lanes": ""}


class Target:
    """Compiles passes for one kind of device."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._sharding = jax.sharding.SingleDeviceSharding(_device(command.target))
        self.model: Decoder = shapes.abstract(command.shape, jnp.bfloat16)
        self.compiled = functools.cache(self._compiled)

    def bucket(self, count: int) -> Bucket:
        """The pass of `count` lanes."""
        return Bucket(self._command.tokens, count)

    def account(self, count: int, remat: bool) -> pass_bytes.PassBytes:
        """jaxcram's estimate; for target cpu of the GPU's program."""
        with AS_IF["cuda" if self._command.target == "cpu" else self._command.target]():
            return pass_bytes.count(self.model, self.bucket(count), self._command.num_memory, remat=remat)

    def _compiled(self, count: int, remat: bool) -> dict[str, Any]:
        """Bytes of a pass with `count` lanes."""
        config, num_memory, tokens = self.model.config, self._command.num_memory, self._command.tokens
        settings = PassSettings(remat=remat)
        pool = jax.eval_shape(
            lambda: lanes.init_pool(
                lanes.Problem(
                    jnp.ones((count, tokens), jnp.int32), jnp.full(count, tokens), jnp.full(count, 0.1)
                ),
                jnp.ones((count, num_memory, config.width)),
                settings,
            )
        )
        step = jax.jit(
            lambda model, pool: lanes.one_pass(model, pool, tokens, settings),
            in_shardings=self._sharding,
            out_shardings=self._sharding,
        )
        start = time.perf_counter()
        shape = (count, num_memory + tokens - 1, config.num_heads, config.head_size)
        query = jax.ShapeDtypeStruct(shape, self.model.dtype)
        with AS_IF[self._command.target]():
            attention = attention_implementation(query) if config.only_causal(shape[1]) else "plain"
            stats = step.lower(self.model, pool).compile().memory_analysis()
        workspace = query.size * 4 if attention == "cudnn" else 0
        parts = {
            "argument_bytes": stats.argument_size_in_bytes,
            "temp_bytes": stats.temp_size_in_bytes,
            "output_bytes": stats.output_size_in_bytes - stats.alias_size_in_bytes,
            "workspace_bytes": workspace,
        }
        seconds = time.perf_counter() - start
        return {"attention": attention, **parts, "peak_bytes": sum(parts.values()), "compile_s": seconds}

    def peak(self, count: int, remat: bool) -> int:
        """Bytes of the compiled pass."""
        return self.compiled(count, remat)["peak_bytes"]


def _device(target: str) -> Any:
    if target == "cpu":
        return jax.devices("cpu")[0]
    module, package = NEEDED[target]
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(module) is not None:
            if target == "tpu":
                return topologies.get_topology_desc("v5p:2x2x1", platform="tpu").devices[0]
            jax.devices()  # finds the plugins
            options = {"target_config": H100, "topology": "1x1x1"}
            return topologies.get_topology_desc("h100", platform="cuda", **options).devices[0]
    raise UserError(f"--target={target}: its compiler is not installed; install {package}, or take cpu")


def most_lanes(peak: Callable[[int], int], capacity: float, first: int, second: int) -> int:
    """The most lanes whose peak is at most `capacity`, 0 where one is too many.

    The line through two numbers of lanes gives a first guess, which is exact or off by one for a large model;
    from there steps double until they cross the capacity, and bisection ends it.
    """
    per_lane = (peak(second) - peak(first)) / (second - first)
    guess = max(0, int(first + (capacity - peak(first)) / per_lane))
    fits, too_many, step = guess, guess + 1, 1
    while fits and peak(fits) > capacity:
        fits, too_many, step = max(0, fits - step), fits, 2 * step
    while too_many > guess and peak(too_many) <= capacity:
        fits, too_many, step = too_many, too_many + step, 2 * step
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if peak(middle) <= capacity else (fits, middle)
    return fits


def pass_record(target: Target, count: int, remat: bool) -> dict[str, Any]:
    """One compiled pass, and the estimate beside it."""
    compiled, account = target.compiled(count, remat), target.account(count, remat)
    record = {"measurement": "pass", "lanes": count, "remat": remat, **compiled}
    record |= {f"{name}_gb": value / 1e9 for name, value in account._asdict().items()}
    return record | {"compiled_gb": compiled["peak_bytes"] / 1e9, "account_gb": account.total / 1e9}


def fit_record(target: Target, counts: tuple[int, ...], remat: bool) -> dict[str, Any]:
    """The line through the compiled peaks, by least squares, and its largest error."""
    peaks = np.array([target.peak(count, remat) for count in counts], float)
    per_lane, fixed = np.polyfit(counts, peaks, 1)
    off = np.abs(np.polyval([per_lane, fixed], counts) - peaks).max()
    sizes = {"fixed_gb": fixed / 1e9, "per_lane_gb": per_lane / 1e9, "worst_error_gb": off / 1e9}
    return {"measurement": "fit", "remat": remat, **sizes}


def lanes_record(target: Target, device_gb: int, remat: bool, command: Command) -> dict[str, Any]:
    """How many lanes one device holds."""
    capacity, points = command.share * device_gb * 1e9, (min(command.lanes), max(command.lanes))
    count = most_lanes(lambda n: target.peak(n, remat), capacity, *points)
    accounted = most_lanes(lambda n: target.account(n, remat).total, capacity, *points)
    sizes = {"device_gb": device_gb, "remat": remat, "lanes": count, "account_lanes": accounted}
    return {
        "measurement": "lanes",
        **sizes,
        "compiled_gb": target.peak(count, remat) / 1e9 if count else None,
        "one_more_gb": target.peak(count + 1, remat) / 1e9,
    }


def main(command: Command) -> None:
    target = Target(command)
    common = {"benchmark": "memory", "machine": program.machine(), "settings": program.described(command)}

    def show(records: list[dict[str, Any]], columns: dict[str, str]) -> None:
        print(program.table(records, columns), end="\n\n", flush=True)
        program.write_records(command.json, records, **common)

    print(f"{command.shape}, bf16, {command.tokens} tokens a lane, compiled for {command.target}\n")
    remats = (False, True)
    show([pass_record(target, n, remat) for remat in remats for n in command.lanes], PASS_COLUMNS)
    fits = [fit_record(target, command.lanes, remat) for remat in remats]
    show(fits, {"remat": "", "fixed_gb": ".2f", "per_lane_gb": ".3f", "worst_error_gb": ".3f"})
    print(f"lanes in {command.share:g} of a device's memory")
    show([lanes_record(target, gb, r, command) for r in remats for gb in command.device_gb], LANES_COLUMNS)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
