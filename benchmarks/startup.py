"""How long a user waits: for the help, and for the first pass, with nothing compiled before and with a cache.

    python benchmarks/startup.py --json=results.jsonl

Each is a process of its own, timed from outside. The run is one text, one learning rate and one step, so it
has one pass that steps and one that ends it; loading, tokenizing and decoding back are in the time.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import workload

from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    repeats: int = 3
    json: str | None = None


TOPICS = {
    "Measurement": {
        "repeats": Doc("Times that each is run; the best counts, but for the cold start", "runs"),
        "json": Doc("Append one JSON line a measurement to this file", unset="none is written"),
    }
}


def timed(arguments: list[str], folder: Path, cache: Path) -> float:
    """Seconds of `jaxcram ARGUMENTS` in a folder; raises UserError with what it says of a mistake in them."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    code = "import sys; from jaxcram.cli.main import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode == UserError.exit_code:
        raise UserError(done.stderr.decode().strip().splitlines()[-1].partition("error: ")[2])
    done.check_returncode()
    return seconds


def measured(repeats: int) -> list[dict[str, Any]]:
    """One record each."""
    one = ["cram", "--texts=stories:1", "--learning_rates=1.0", "--max_steps=1"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold = timed(one, folder, folder / "cache")
        warm = min(timed(one, folder, folder / "cache") for _ in range(repeats))
        help_s = min(timed(["cram", "--help"], folder, folder / "cache") for _ in range(repeats))
    seconds = {
        "cram --help": help_s,
        "first pass, nothing compiled": cold,
        "first pass, from the cache": warm,
    }
    return [{"start": start, "wall_s": wall_s} for start, wall_s in seconds.items()]


def main(command: Command) -> None:
    records = measured(command.repeats)
    machine = measure.machine()
    print(machine)
    print(measure.table(records, {"start": "", "wall_s": ".2f"}))
    common = {"benchmark": "startup", "machine": machine}
    measure.write_json_lines([common | record for record in records], command.json)


if __name__ == "__main__":
    workload.start(Command, TOPICS, main, __doc__)
