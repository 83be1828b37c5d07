"""What does a sweep cost? All learning rates in one run, against each of them in a run of its own.

    python benchmarks/schedule.py --num_samples=32 --json=results.jsonl
    python benchmarks/schedule.py --num_samples=32 --commands

Without --commands the runs follow one another in this process, after one of each kind has compiled all
programs: the passes and the host's work between them. With --commands they are whole commands, each in a
process of its own with all programs in the cache: what a user waits for, with loading, decoding and the
figure. One JSON line each:

  timed         loop or command
  rates         learning rates of the run
  useful_share  tokens of unfinished lanes' current prefixes / padded tokens computed
  over_one      wall time / the mean of the runs with one learning rate
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import passes, program
from common.program import Workload
from jaxcram.cli.flags import Doc
from jaxcram.cram.fit import Fit
from jaxcram.models.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    workload: Workload = dataclasses.field(default_factory=lambda: Workload(num_samples=32))
    learning_rates: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    alone: bool = True
    commands: bool = False

    def groups(self) -> list[tuple[float, ...]]:
        """The learning rates of every run."""
        return [self.learning_rates, *((rate,) for rate in self.learning_rates if self.alone)]


TOPICS = {
    **program.TOPICS,
    "Measurement": {
        "learning_rates": Doc("Crossed with the texts as lanes", "per step"),
        "alone": Doc("Also run each learning rate alone"),
        "commands": Doc("Time whole commands instead of runs in this process"),
    },
}
COLUMNS = {
    "timed": "",
    "rates": "",
    "lanes": "",
    "wall_s": ".1f",
    "passes": "",
    "lane_steps": "",
    "useful_share": ".3f",
    "over_one": ".2f",
}


def loops(model: Decoder, command: Command) -> list[dict[str, Any]]:
    """One record a run in this process."""
    samples, groups = command.workload.samples(model), command.groups()
    compile_first, records = groups[:2], []  # other single rates have the programs of the first one
    fits: dict[int, Fit] = {}  # and its plan
    for rates in [*compile_first, *groups]:
        settings = command.workload.settings(*rates)
        result = passes.whole_run(model, samples, settings, fits.get(len(rates)))
        fits[len(rates)] = result.fit
        total, horizons = result.total, [outcome.horizon for outcome in result.outcomes]
        records.append(
            {
                "timed": "loop",
                "rates": _given(rates),
                "lanes": len(horizons),
                "wall_s": total.wall_s,
                "passes": total.passes,
                "lane_steps": total.lane_steps,
                "useful_share": total.useful_tokens / total.paid_tokens,
                "mean_horizon": statistics.fmean(horizons),
            }
        )
    return records[len(compile_first) :]


def whole_commands(command: Command) -> list[dict[str, Any]]:
    """One record a command; raises UserError with what a command says of a mistake in the flags."""
    flags = {name: value for name, value in program.described(command.workload).items() if value}
    arguments = ["cram", "--trajectory=none", *(f"--{name}={value}" for name, value in flags.items())]
    groups = command.groups()
    compile_first, records = groups[:2], []
    with tempfile.TemporaryDirectory() as name:
        for number, rates in enumerate([*compile_first, *groups]):
            out = Path(name) / str(number)
            own = [*arguments, f"--learning_rates={_given(rates)}", f"--out={out}"]
            wall_s = program.time_command(own, Path.cwd(), cache=Path(name) / "cache")
            summary = json.loads((out / "summary.json").read_text())
            records.append(
                {
                    "timed": "command",
                    "rates": _given(rates),
                    "lanes": len(summary["lanes"]),
                    "wall_s": wall_s,
                    **{key: summary[key] for key in ("passes", "lane_steps", "useful_share")},
                    "mean_horizon": statistics.fmean(lane["horizon"] for lane in summary["lanes"]),
                }
            )
    return records[len(compile_first) :]


def _given(rates: tuple[float, ...]) -> str:
    """Learning rates as a flag takes them."""
    return ",".join(f"{rate:g}" for rate in rates)


def compared(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with `over_one`; the first is of all learning rates at once."""
    one = statistics.fmean(record["wall_s"] for record in records[1:]) if records[1:] else None
    return [record | {"over_one": one and record["wall_s"] / one} for record in records]


def main(command: Command) -> None:
    if command.commands:
        records = compared(whole_commands(command))
    else:
        records = compared(loops(command.workload.decoder(), command))
    machine = program.machine()
    print(machine)
    print(program.table(records, COLUMNS))
    common = {"machine": machine, "settings": program.described(command)}
    program.write_records(command.workload.json, records, benchmark="schedule", **common)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
