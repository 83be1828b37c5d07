"""How many optimiser steps per second does jaxcram take on this machine, and what limits them?

    python benchmarks/steps_per_second.py --model=DIR --num_samples=8 --json=results.jsonl

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
"""

from __future__ import annotations

import dataclasses
from typing import Any

from common import passes, program
from common.passes import Tally
from common.program import Workload
from jaxcram.cli.flags import Doc
from jaxcram.cram.settings import CramSettings
from jaxcram.errors import UserError
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import Sample


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    workload: Workload = dataclasses.field(default_factory=lambda: Workload(num_samples=8))
    learning_rates: tuple[float, ...] = (0.1,)
    repeats: int = 5

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UserError(f"--repeats={self.repeats}: at least 1 is needed")


TOPICS = {
    **program.TOPICS,
    "Measurement": {
        "learning_rates": Doc("Crossed with the texts as lanes", "per step"),
        "repeats": Doc("Chunks timed in each bucket; the best counts", "chunks"),
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
    first_run_s = passes.whole_run(model, samples, settings).total.wall_s
    result = passes.whole_run(model, samples, settings)
    records = [record("run", None, len(result.outcomes), result.total, matmul)]
    for bucket, tally in sorted(result.buckets.items()):
        records.append(record("run_bucket", *bucket, tally, matmul))
    for bucket in sorted(result.buckets):
        chunk = passes.full_bucket(model, bucket, num_memory=settings.num_memory)
        best = min((chunk() for _ in range(repeats)), key=lambda tally: tally.wall_s)
        records.append(record("bucket", *bucket, best, matmul))
    return [{**one, "first_run_s": first_run_s} for one in records]


def main(command: Command) -> None:
    machine = program.machine()
    model = command.workload.decoder()
    settings = command.workload.settings(*command.learning_rates)
    records = measured(model, command.workload.samples(model), settings, command.repeats)
    print(machine)
    print(f"one large matrix product: {records[0]['matmul_flops_per_s']:.4g} FLOP/s")
    print(f"first run, compilation included: {records[0]['first_run_s']:.1f} s")
    print(program.table(records, COLUMNS))
    common = {"machine": machine, "settings": program.described(command)}
    program.write_records(command.workload.json, records, benchmark="steps_per_second", **common)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
