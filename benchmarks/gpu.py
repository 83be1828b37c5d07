"""How fast are passes on one GPU? Published model shapes with random bf16 weights, beside PyTorch's passes.

    PYTHONPATH=. python benchmarks/gpu.py --json=benchmarks/results/gpu.jsonl    (nine minutes, no network)

Every stage is a process of its own, so that each has the GPU's memory to itself:

  numerics      cuDNN's attention and the plain one, both in bf16, against the plain one in fp32; logits of
                small models against PyTorch's in fp32, of one checkpoint
  jax:SHAPE     passes of a full bucket at each length: passes/s, model FLOP/s as a share of the measured rate
                of one large bf16 product, compile time, peak memory of the process so far; for the largest
                shape also with rematerialisation (`remat`) and with plain attention
  torch:SHAPE   the reference's passes (common/torch_reference.py: Hugging Face, sdpa) of the same size; with
                fewer lanes where memory does not suffice: then compare tokens/s
  sweep:SHAPE   passes of one length with a growing number of lanes

Each measurement is a JSON line, written as soon as it is made; the tables at the end join the two sides.
After `--minutes` the running stage is stopped and the tables show what has been measured. FLOPs are those of
`common.passes.pass_flops`; recomputation is not counted. `--tiny` runs every stage on tiny shapes on CPU.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from common import program
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError

# Memory is allocated as needed, up to nearly all, because the peak is measured. Without a compilation cache
# the compile times are those of a first start.
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_CLIENT_MEM_FRACTION": "0.92",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
LARGEST, SWEPT = "llama3.1-8b", ("smollm2-135m", "smollm2-1.7b")
MODELS = (LARGEST, "smollm2-1.7b", "pythia-1.4b", "smollm2-135m")
TINY_MODELS = ("tiny-llama", "tiny-neox")


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    minutes: float = 9.0
    tiny: bool = False
    stage: str | None = None
    commit: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        if self.minutes <= 0:
            raise UserError(f"--minutes={self.minutes:g}: must be greater than 0")
        if self.stage is not None and self.stage not in stages(self.tiny):
            listed = ", ".join(stages(self.tiny))
            raise UserError(f"--stage={self.stage}: choose one of {listed}")


TOPICS = {
    "Measurement": {
        "minutes": Doc("When to stop", "minutes"),
        "tiny": Doc("Tiny shapes on CPU: a test of the program"),
        "stage": Doc("Run one stage in this process; it prints its JSON lines", unset="all, in turn"),
        "commit": Doc("Of the sources, for the records", unset="as git tells it"),
    },
    "Results": program.RESULTS,
}
COLUMNS = {
    **{"shape": "", "tokens": "", "lanes": "", "remat": "", "attention": "", "passes_per_s": ".2f"},
    **{"matmul_share": ".3f", "peak_gb": ".1f", "compile_s": ".1f", "torch_lanes": "", "torch_share": ".3f"},
    "tokens_ratio": ".2f",
}
SWEEP_COLUMNS = {
    **{"shape": "", "tokens": "", "lanes": "", "passes_per_s": ".2f", "tokens_per_s": ".0f"},
    "matmul_share": ".3f",
}
ATTENTION_COLUMNS = {
    **{"attention": "", "lanes": "", "tokens": "", "pass_s": ".5f", "output_error": ".5f"},
    **{"query_error": ".5f", "key_error": ".5f", "value_error": ".5f"},
}
LOGITS_COLUMNS = {"shape": "", "jaxcram_error": ".5f", "torch_error": ".5f", "same_argmax": ".4f"}


def stages(tiny: bool) -> list[str]:
    """All stages, the most important first."""
    models = TINY_MODELS if tiny else MODELS
    passes = [f"{side}:{model}" for model in models for side in ("jax", "torch")]
    return ["numerics", *passes, *(f"sweep:{model}" for model in (TINY_MODELS[:1] if tiny else SWEPT))]


def run_stage(stage: str, tiny: bool) -> Iterator[dict[str, Any]]:
    """One stage in this process; the machine comes first, except where PyTorch has the GPU."""
    from common import gpu_stages

    kind, _, shape = stage.partition(":")
    if kind != "torch":
        yield {"measurement": "machine", **program.machine()}
    plan = gpu_stages.Plan(shape or (TINY_MODELS[0] if tiny else LARGEST))
    if tiny:
        small = {"lengths": (16, 32), "token_budget": 64, "sweep": (32,), "chunk_s": 0.01}
        plan = dataclasses.replace(plan, extras=shape == TINY_MODELS[0], **small)
        if not plan.extras:  # of the second family one length
            plan = dataclasses.replace(plan, lengths=(32,))
    elif plan.shape == LARGEST:  # fewer tokens, for both sides' activations to fit
        plan = dataclasses.replace(plan, extras=True, token_budget=8192)
    yield from gpu_stages.STAGES[kind](plan)


def watched(stage: str, tiny: bool, deadline: float) -> Iterator[dict[str, Any]]:
    """The records of a stage in a process of its own, as they come; stopped at the deadline."""
    environment = os.environ | ENVIRONMENT
    if tiny or stage.startswith("torch"):
        environment["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, __file__, f"--stage={stage}", f"--tiny={str(tiny).lower()}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), process.kill)
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        status = process.wait()
        timer.cancel()
    if status:
        reason = "out of time" if time.monotonic() >= deadline else f"exit status {status}, see above"
        yield {"measurement": "stopped", "reason": reason}


def joined(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """jaxcram's passes, each beside the reference's of its shape and length."""
    theirs = {(one["shape"], one["tokens"]): one for one in records if one["measurement"] == "torch_pass"}
    rows = []
    for one in records:
        if one["measurement"] in ("pass", "plain"):
            other = theirs.get((one["shape"], one["tokens"]))
            peak = one["peak_bytes"]
            rows.append(
                one
                | {
                    "peak_gb": peak and peak / 1e9,
                    "torch_lanes": other and other["lanes"],
                    "torch_share": other and other["matmul_share"],
                    "tokens_ratio": other and one["tokens_per_s"] / other["tokens_per_s"],
                }
            )
    return rows


def show(records: list[dict[str, Any]]) -> None:
    """Print the tables of what has been measured."""
    print(program.table(joined(records), COLUMNS))
    for kind, columns in {
        "sweep": SWEEP_COLUMNS,
        "attention": ATTENTION_COLUMNS,
        "logits": LOGITS_COLUMNS,
        "stopped": {"stage": "", "reason": ""},
    }.items():
        chosen = [one for one in records if one["measurement"] == kind]
        if chosen:
            print(f"\n{kind}\n{program.table(chosen, columns)}")


def main(command: Command) -> None:
    if command.stage is not None:
        for record in run_stage(command.stage, command.tiny):
            print(json.dumps(record), flush=True)
        return
    deadline = time.monotonic() + 60 * command.minutes
    machine: dict[str, Any] = {}
    records: list[dict[str, Any]] = []
    for stage in stages(command.tiny):
        if time.monotonic() >= deadline:
            records.append({"measurement": "stopped", "stage": stage, "reason": "not begun"})
            continue
        print(f"{stage} ...", file=sys.stderr, flush=True)
        for record in watched(stage, command.tiny, deadline):
            if record["measurement"] == "machine":
                machine = record | {"commit": command.commit or record["commit"]}
                continue
            records.append({"stage": stage} | record)
            common = {"benchmark": "gpu", "machine": machine, "tiny": command.tiny}
            program.write_records(command.json, records[-1:], **common)
    print(machine)
    show(records)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
