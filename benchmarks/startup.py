"""How long does jaxcram take to start: the help, and a first pass, with nothing compiled and from the cache?

    python benchmarks/startup.py --json=results.jsonl

Each is a process of its own, timed from outside. The run has one text, one learning rate and one step: a pass
that steps and one that ends the lane. Loading, tokenizing and decoding are included.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from common import program
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    repeats: int = 3
    json: str | None = None

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UserError(f"--repeats={self.repeats}: at least 1 is needed")


TOPICS = {
    "Measurement": {
        "repeats": Doc("Runs of each, of which the fastest counts; of the cold start one", "runs")
    },
    "Results": program.RESULTS,
}


def measured(repeats: int) -> list[dict[str, Any]]:
    """One record each."""
    one = ["cram", "--texts=stories:1", "--learning_rates=1.0", "--max_steps=1"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def timed(arguments: list[str]) -> float:
            return program.time_command(arguments, directory, cache=directory / "cache")

        seconds = {
            "first pass, nothing compiled": timed(one),
            "first pass, from the cache": min(timed(one) for _ in range(repeats)),
            "cram --help": min(timed(["cram", "--help"]) for _ in range(repeats)),
        }
    return [{"start": start, "wall_s": wall_s} for start, wall_s in seconds.items()]


def main(command: Command) -> None:
    records = measured(command.repeats)
    machine = program.machine()
    print(machine)
    print(program.table(records, {"start": "", "wall_s": ".2f"}))
    program.write_records(command.json, records, benchmark="startup", machine=machine)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
