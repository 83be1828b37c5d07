"""How much faster is jaxcram than plain PyTorch? The same model, texts, initial embeddings, caps and machine.

    python benchmarks/against_torch.py --num_samples=25 --batch=25 --learning_rate=0.5 --passes=8x32,8x128

The bundled model and stories, or a model and texts of your own:

    python benchmarks/against_torch.py --model=DIR --texts=paragraphs.jsonl --num_samples=8 --batch=8 \
        --max_tokens=16 --max_steps=400 --max_steps_per_token=150 --learning_rate=0.5 --torch_threads=2 \
        --scopes=to_caps --passes=8x4,8x16

The reference (`common/torch_reference.py`) is the published procedure in Hugging Face transformers: one batch
in lock-step. Both run in this process. Two kinds of measurement, one JSON line each; a ratio is always
seconds of PyTorch / seconds of jaxcram.

"pass": B lanes of T target tokens, every lane active and every token useful: forward, measure, backward,
step. The sides take turns; the best of each counts. This compares the arithmetic alone. jaxcram splits the
lanes over its devices, which on CPU are the cores. With --shape=smollm2-135m (or another of
`common.shapes.SHAPES`) the weights are random ones in that shape, and only passes are compared.

"run": whole progressive runs in turn (jaxcram, PyTorch, jaxcram, ..., jaxcram) from the same initial
embeddings; the median of each counts. The first run of jaxcram measures passes, plans and compiles, and is
reported apart: `jaxcram_first_s`; `jaxcram_compile_s`, how much longer it took than the others, which have
its plan; `ratio_with_compile`; `jaxcram_shapes`, lanes x tokens of its passes, of which
`jaxcram_at_once` share the cores. The work of both sides beside it: passes, optimiser steps of
samples (`lane_steps`), and `useful_share`, tokens of the prefixes that stepped / tokens computed. Two scopes:

  "to_caps"  every lane runs until it fails or its text ends, as in an experiment. The two sides round
             differently, so horizons differ by chance: compare the means, and `ratio_per_token`, the ratio of
             seconds for each token reached. `horizon_differences` has jaxcram's horizon minus PyTorch's for
             every sample where they differ.
  "equal"    each target is cut to the horizon that both sides reached before, so both do the same work.
             `equal_horizons` counts the samples on which they agree.

`others_share` is the share of the cores' time that other programs took during the runs. Measure on an idle
machine: PyTorch's threads wait for each other after every operation, so a busy one slows them far more.

PyTorch gets one thread or all cores, whichever runs its passes faster: chosen for each shape of "pass", and
for "run" by two typical lengths of a batch. Do not compare passes per second of whole runs: a pass of the
reference holds the whole batch.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two frameworks share the device

import jax

from common import pairs, passes, program, torch_reference
from common.pairs import Pair
from common.program import Workload
from jaxcram.cli.flags import Doc
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import CramSettings
from jaxcram.cram.start import initial_embeddings, jobs_of
from jaxcram.devices import mesh
from jaxcram.errors import UserError
from jaxcram.text.tokens import Sample

SCOPES = "to_caps", "equal"
SIDES = "jaxcram", "torch"


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    workload: Workload = dataclasses.field(default_factory=Workload)
    learning_rate: float = 0.1
    batch: int = 25
    rounds: int = 1
    scopes: tuple[str, ...] = SCOPES
    passes: tuple[str, ...] = ("8x64", "25x32")
    torch_threads: int = 0
    shape: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: at least 1 is needed")
        if tuple(filter(None, self.scopes)) not in {(), SCOPES[:1], SCOPES}:
            raise UserError(f"--scopes={','.join(self.scopes)}: give to_caps, or to_caps,equal, or nothing")


TOPICS = {
    **program.TOPICS,
    "Comparison": {
        "learning_rate": Doc("Peak of the schedule", "per step"),
        "batch": Doc("Samples in lock-step in the reference", "samples"),
        "scopes": Doc("Of whole runs to compare; equal needs to_caps; nothing compares passes alone"),
        "rounds": Doc("Runs of PyTorch in each scope; jaxcram has one more", "runs"),
        "passes": Doc("Shapes of passes to compare, lanes x tokens", "BxT"),
        "shape": Doc("Random weights of this shape, and passes alone", unset="the model, and runs too"),
        "torch_threads": Doc("Of PyTorch on CPU; 0 takes one or all cores, whichever is faster", "threads"),
    },
}

TYPICAL_TOKENS = (16, 32)  # of a batch in whole runs
PASS_COLUMNS = {
    "lanes": "",
    "tokens": "",
    "torch_threads": "",
    "jaxcram_s": ".5f",
    "torch_s": ".5f",
    "ratio": ".2f",
}
RUN_COLUMNS = {
    "scope": "",
    "samples": "",
    "torch_threads": "",
    "jaxcram_s": ".1f",
    "jaxcram_first_s": ".1f",
    "torch_s": ".1f",
    "ratio": ".2f",
    "ratio_with_compile": ".2f",
    "ratio_per_token": ".2f",
    "jaxcram_mean_horizon": ".2f",
    "torch_mean_horizon": ".2f",
    "equal_horizons": "",
    "horizon_differences": "",
    "others_share": ".2f",
}
WORK_COLUMNS = {
    "scope": "",
    **{f"{side}_lane_steps": "" for side in SIDES},
    **{f"{side}_useful_share": ".3f" for side in SIDES},
    **{f"{side}_passes": "" for side in SIDES},
    **{f"{side}_passes_per_s": ".1f" for side in SIDES},
    "jaxcram_at_once": "",
    "jaxcram_shapes": "",
}


def reference_settings(settings: CramSettings) -> torch_reference.Settings:
    """The engine's settings of a run with one learning rate, for the reference."""
    optimizer, stages = settings.optimizer, settings.stages
    return torch_reference.Settings(
        learning_rate=settings.learning_rates[0],
        min_learning_rate=optimizer.min_lr,
        warmup_steps=optimizer.warmup_steps,
        max_steps=stages.max_steps,
        max_steps_per_token=stages.max_steps_per_token,
        beta1=optimizer.beta1,
        beta2=optimizer.beta2,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
    )


def pass_record(
    pair: Pair, bucket: Bucket, threads: int = 0, repeats: int = 5, chunk_passes: int = 8
) -> dict[str, Any]:
    """Seconds of one pass of each side at one shape: the best of `repeats` chunks, in turn."""
    devices = mesh.places(mesh.of(pair.model))
    if bucket.lanes % devices:
        raise UserError(f"--passes: {bucket.lanes} lanes do not divide among {devices} devices")
    share = bucket._replace(lanes=bucket.lanes // devices)
    threads = torch_reference.set_threads(pair.torch_model, [bucket], threads)
    chunk = passes.full_bucket(pair.model, share, chunk_passes=chunk_passes)
    torch_chunk = torch_reference.timed_passes(pair.torch_model, bucket, chunk_passes)
    ours, theirs = [], []
    for _ in range(repeats):
        tally = chunk()
        ours.append(tally.wall_s * devices / tally.passes)
        theirs += [seconds / chunk_passes for seconds in passes.seconds(torch_chunk, 1)]
    return {
        "measurement": "pass",
        "lanes": bucket.lanes,
        "tokens": bucket.tokens,
        "torch_threads": threads,
        "jaxcram_s": min(ours),
        "torch_s": min(theirs),
        "jaxcram_all_s": ours,
        "torch_all_s": theirs,
        "ratio": min(theirs) / min(ours),
    }


def compare_runs(
    pair: Pair, samples: list[Sample], settings: CramSettings, *, scope: str, batch: int, rounds: int
) -> dict[str, Any]:
    """Whole runs of both sides over the same samples, in turn."""
    jobs = jobs_of(samples, settings)
    init_NxKxD = initial_embeddings(pair.model, jobs, settings)
    targets = [sample.tokens for sample in samples]
    reference = reference_settings(settings)
    jax.clear_caches()  # so that the first run compiles, also in the second scope
    ours, theirs = [passes.whole_run(pair.model, samples, settings)], []
    with program.Others() as others:
        for _ in range(rounds):
            theirs.append(
                torch_reference.cram(pair.torch_model, targets, init_NxKxD, reference, batch_size=batch)
            )
            ours.append(passes.whole_run(pair.model, samples, settings, ours[0].fit))
    record = {"measurement": "run", "scope": scope, "samples": len(samples), **_comparison(ours, theirs)}
    return record | {"others_share": others.share}


def _comparison(ours: list[passes.RunResult], theirs: list[torch_reference.Outcome]) -> dict[str, Any]:
    first, warm_s = ours[0].total, statistics.median(one.total.wall_s for one in ours[1:])
    reference, torch_s = theirs[0], statistics.median(one.wall_s for one in theirs)
    horizons = [outcome.horizon for outcome in ours[0].outcomes]
    reached, torch_reached = sum(horizons), sum(reference.horizons)
    differences = [a - b for a, b in zip(horizons, reference.horizons, strict=True)]
    return {
        "jaxcram_s": warm_s,
        "jaxcram_first_s": first.wall_s,
        "torch_s": torch_s,
        "jaxcram_all_s": [one.total.wall_s for one in ours[1:]],
        "torch_all_s": [one.wall_s for one in theirs],
        "jaxcram_compile_s": first.wall_s - warm_s,
        "jaxcram_shapes": [f"{bucket.lanes}x{bucket.tokens}" for bucket in ours[0].buckets],
        "jaxcram_at_once": ours[0].fit.plan.at_once,
        "ratio": torch_s / warm_s,
        "ratio_with_compile": torch_s / first.wall_s,
        # (torch_s / torch_reached) / (warm_s / reached), and 0 / 0 where nothing was reached
        "ratio_per_token": torch_s * reached / (warm_s * torch_reached) if torch_reached else None,
        "jaxcram_mean_horizon": reached / len(horizons),
        "torch_mean_horizon": torch_reached / len(horizons),
        "jaxcram_horizons": horizons,
        "torch_horizons": reference.horizons,
        "equal_horizons": differences.count(0),
        "horizon_differences": [one for one in differences if one],
        "jaxcram_passes": first.passes,
        "torch_passes": reference.passes,
        "jaxcram_passes_per_s": first.passes / warm_s,
        "torch_passes_per_s": reference.passes / torch_s,
        "jaxcram_lane_steps": first.lane_steps,
        "torch_lane_steps": reference.lane_steps,
        "torch_lane_passes": reference.lane_passes,
        "jaxcram_useful_share": first.useful_tokens / first.paid_tokens,
        "torch_useful_share": reference.useful_tokens / reference.tokens,
        "jaxcram_paid_tokens": first.paid_tokens,
        "torch_paid_tokens": reference.tokens,
    }


def cut_to(samples: list[Sample], lengths: Sequence[int]) -> list[Sample]:
    """The samples with their targets cut to `lengths` tokens; those cut to nothing are left out."""
    pairs = zip(samples, lengths, strict=True)
    return [dataclasses.replace(sample, tokens=sample.tokens[:n]) for sample, n in pairs if n]


def run_records(
    pair: Pair, samples: list[Sample], settings: CramSettings, command: Command
) -> list[dict[str, Any]]:
    """Runs to the caps, and then, if asked, to the horizons that both sides reached there."""
    typical = [Bucket(tokens, command.batch) for tokens in TYPICAL_TOKENS]
    threads = torch_reference.set_threads(pair.torch_model, typical, command.torch_threads)
    rounds = {"batch": command.batch, "rounds": command.rounds}
    to_caps = compare_runs(pair, samples, settings, scope="to_caps", **rounds)
    records, common = [to_caps], list(map(min, to_caps["jaxcram_horizons"], to_caps["torch_horizons"]))
    if "equal" in command.scopes and (cut := cut_to(samples, common)):
        records.append(compare_runs(pair, cut, settings, scope="equal", **rounds))
    return [record | {"torch_threads": threads} for record in records]


def main(command: Command) -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are to be those of a first start
    machine, buckets = program.machine(), passes.parse_buckets(command.passes)
    if command.shape:
        pair = pairs.random_pair(command.shape, command.workload.dtype)
    else:
        pair = pairs.load_pair(command.workload)
    print(machine)
    records = [pass_record(pair, bucket, command.torch_threads) for bucket in buckets]
    print(program.table(records, PASS_COLUMNS))
    if any(command.scopes) and not command.shape:
        samples = command.workload.samples(pair.model)
        settings = command.workload.settings(command.learning_rate)
        runs = run_records(pair, samples, settings, command)
        print(program.table(runs, RUN_COLUMNS), program.table(runs, WORK_COLUMNS), sep="\n\n")
        records += runs
    common = {"machine": machine, "settings": program.described(command)}
    program.write_records(command.workload.json, records, benchmark="against_torch", **common)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
