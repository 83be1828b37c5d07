"""How many optimiser steps per second does jaxcram take on this machine, and what limits them?

    python benchmarks/steps_per_second.py --model=DIR --num_samples=8 --json=results.jsonl

A model and texts of your own, and how long passes of given shapes take, without a run:

    python benchmarks/steps_per_second.py --model=DIR --texts=FILE --max_steps=400 --max_steps_per_token=150
    python benchmarks/steps_per_second.py --model=DIR --mesh=lanes:1,model:1 --passes=1x4,8x4,8x16

First a progressive run, twice: the first compiles, the second is timed and split by bucket. Then every bucket
that the run used is timed alone, full of lanes that never end. One JSON line each:

  scope              "run", "run_bucket" (a bucket's part of the run) or "bucket" (alone, full)
  tokens, lanes      padded target tokens T and lanes B of a pass; for the run, null and all its lanes
  passes, wall_s     passes, and their seconds; in a run these include the host's part
  lane_steps         optimiser steps, over all lanes; per second: lane_steps_per_s
  tokens_per_s       padded tokens that passes computed, per second
  useful_share       tokens of unfinished lanes' current prefixes / padded tokens; the rest is padding and
                     lanes that have ended
  model_flops_per_s  FLOPs of the passes (`common.passes.pass_flops`), padded tokens included, per second
  matmul_flops_per_s one large matrix product, measured in this process; matmul_share is the ratio of the two
  first_run_s        seconds of the first run, compilation included

So useful_share * matmul_share is the share of the machine's matrix rate that went into useful tokens.

With --passes each shape is compiled and timed alone, in turns, the best of `repeats` chunks of each, scope
"pass". There `floor_s` is the time below which no pass of that shape can be on all cores: the larger of its
FLOPs at the rate of the large product and the bytes of its weights (read forward and back) at
`read_bytes_per_s`, the rate at which one large array is read.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from common import passes, program
from common.passes import Tally
from common.program import Workload
from jaxcram.cli.flags import Doc
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import CramSettings
from jaxcram.devices import mesh
from jaxcram.devices.compilation import CompileTime
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import Sample

PASSES = 4  # of a timed chunk


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    workload: Workload = dataclasses.field(default_factory=lambda: Workload(num_samples=8))
    learning_rates: tuple[float, ...] = (0.1,)
    repeats: int = 5
    passes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UserError(f"--repeats={self.repeats}: at least 1 is needed")


TOPICS = {
    **program.TOPICS,
    "Measurement": {
        "learning_rates": Doc("Crossed with the texts as lanes", "per step"),
        "repeats": Doc("Chunks timed in each bucket; the best counts", "chunks"),
        "passes": Doc("Time passes of these shapes, lanes x tokens", "BxT", unset="a run and its buckets"),
    },
}

COLUMNS = {
    "scope": "",
    "tokens": "",
    "lanes": "",
    "passes": "",
    "wall_s": ".2f",
    "lane_steps_per_s": ".0f",
    "tokens_per_s": ".0f",
    "useful_share": ".3f",
    "model_flops_per_s": ".3g",
    "matmul_share": ".3f",
}
PASS_COLUMNS = {
    "tokens": "",
    "lanes": "",
    "pass_s": ".4f",
    "floor_s": ".4f",
    "lane_steps_per_s": ".1f",
    "tokens_per_s": ".0f",
    "model_flops_per_s": ".3g",
    "matmul_share": ".3f",
    "compile_s": ".1f",
}


def record(
    scope: str, tokens: int | None, lanes: int, tally: Tally, matmul_flops_per_s: float
) -> dict[str, Any]:
    """One measurement, with the rates that follow from it."""
    return {
        "scope": scope,
        "tokens": tokens,
        "lanes": lanes,
        "passes": tally.passes,
        "wall_s": tally.wall_s,
        "lane_steps": tally.lane_steps,
        "lane_steps_per_s": tally.lane_steps / tally.wall_s,
        "tokens_per_s": tally.paid_tokens / tally.wall_s,
        "useful_share": tally.useful_tokens / tally.paid_tokens,
        "model_flops_per_s": tally.flops / tally.wall_s,
        "matmul_flops_per_s": matmul_flops_per_s,
        "matmul_share": tally.flops / tally.wall_s / matmul_flops_per_s,
    }


def measured(
    model: Decoder, samples: list[Sample], settings: CramSettings, repeats: int
) -> list[dict[str, Any]]:
    """All records of the benchmark: the run, its buckets' parts, and each bucket alone, best of `repeats`."""
    matmul = passes.matmul_rate(model.dtype)
    first = passes.whole_run(model, samples, settings)
    with passes.tallied_by_bucket(model, settings.num_memory) as buckets:
        result = passes.whole_run(model, samples, settings, first.fit)
    result.total.flops = sum(tally.flops for tally in buckets.values())
    records = [record("run", None, len(result.outcomes), result.total, matmul)]
    for bucket, tally in sorted(buckets.items()):
        records.append(record("run_bucket", *bucket, tally, matmul))
    for bucket in sorted(buckets):
        chunk = passes.full_bucket(model, bucket, num_memory=settings.num_memory)
        best = min((chunk() for _ in range(repeats)), key=lambda tally: tally.wall_s)
        records.append(record("bucket", *bucket, best, matmul))
    return [{**one, "first_run_s": first.total.wall_s} for one in records]


def timed_passes(model: Decoder, buckets: list[Bucket], repeats: int) -> list[dict[str, Any]]:
    """One record a shape; the shapes take turns, so that a slow moment of the machine meets all of them."""
    matmul, read = passes.matmul_rate(model.dtype), passes.read_rate()
    chunks, compiled = [], []
    for bucket in buckets:
        with CompileTime() as compile_time:
            chunks.append(passes.full_bucket(model, bucket, chunk_passes=PASSES))
        compiled.append(compile_time.spent_s)
    rounds = [[chunk() for chunk in chunks] for _ in range(repeats)]
    records = []
    for bucket, compile_s, *tallies in zip(buckets, compiled, *rounds, strict=True):
        best = min(tallies, key=lambda tally: tally.wall_s)
        floor_s = max(passes.pass_flops(model, bucket) / matmul, passes.weight_bytes(model) / read)
        timed = {"pass_s": best.wall_s * mesh.places(mesh.of(model)) / best.passes, "floor_s": floor_s}
        more = {"read_bytes_per_s": read, "compile_s": compile_s}
        records.append(record("pass", *bucket, best, matmul) | timed | more)
    return records


def main(command: Command) -> None:
    buckets = passes.parse_buckets(command.passes)
    if buckets:
        jax.config.update("jax_enable_compilation_cache", False)  # compile times are those of a first start
    machine = program.machine()
    model = command.workload.decoder()
    if buckets:
        records, columns = timed_passes(model, buckets, command.repeats), PASS_COLUMNS
    else:
        settings = command.workload.settings(*command.learning_rates)
        samples = command.workload.samples(model)
        records, columns = measured(model, samples, settings, command.repeats), COLUMNS
        print(f"first run, compilation included: {records[0]['first_run_s']:.1f} s")
    print(machine)
    print(f"one large matrix product: {records[0]['matmul_flops_per_s']:.4g} FLOP/s")
    print(program.table(records, columns))
    common = {"machine": machine, "settings": program.described(command)}
    program.write_records(command.workload.json, records, benchmark="steps_per_second", **common)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
