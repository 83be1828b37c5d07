"""The experiments of the paper on one model, in one command: runs them in turn and keeps what they find.

    python benchmarks/paper.py --model=DIR --texts=paragraphs.jsonl --tasks=DIR --out=runs/paper

Each experiment is a `jaxcram` command with a directory of its own in --out, and shows its progress. Interrupt
it whenever you like: the same command goes on from there. Runs that are finished are only read again, and
analyses are made again. --only=NAMES chooses experiments.

    cram                   texts progressively into one vector: capacity
    path                   the geometry of their trajectories
    around                 principal components, and the landscape around three lanes
    rates                  fewer texts at four learning rates
    solutions              how far apart the solutions of these rates are
    seeds                  two texts from 32 seeds: by far the most lanes of all
    set_of_seeds           the components of their solutions, against those of a trajectory
    reconstruct            up to 0.99 of the tokens, in full, progressively: what greedy decoding makes of it
    hellaswag, hellaswag_progressive, arc_easy        answers with the context crammed
    mmlu_few_shot, mmlu_random, mmlu_full_prefix      generated answers
    knockout               the items of hellaswag, with the vector hidden from layers

A record has the experiment, its command, and `found`: the summary of the run, or the columns of the analysis.
Absolute paths are cut to their last part. Machine and commit are those of this start: for records of one
commit, begin with a new directory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import program
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError

RATES = "0.01,0.1,0.5,1.0"
SEEDS = ",".join(map(str, range(32)))


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    model: str | None = None
    dtype: str | None = None
    texts: str = "stories"
    tasks: str | None = None
    out: str = "runs/paper"
    only: tuple[str, ...] = ()
    num_samples: int = 10
    max_tokens: int = 128
    learning_rate: float = 0.1
    items: int = 64
    grid: int = 24
    json: str | None = None

    def __post_init__(self) -> None:
        for name, least in {"num_samples": 1, "max_tokens": 1, "items": 1, "grid": 2}.items():
            if (value := getattr(self, name)) < least:
                raise UserError(f"--{name}={value}: at least {least} is needed")
        for name in ("out", "tasks", "json"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.path.expanduser(path))
        names = list(experiments(self))
        if unknown := [name for name in self.only if name not in names]:
            raise UserError(f"--only: {unknown[0]!r} is unknown; choose from {', '.join(names)}")

    @property
    def chosen(self) -> list[str]:
        """The names of the experiments to run, in order."""
        return [name for name in experiments(self) if not self.only or name in self.only]

    def directory(self, name: str) -> Path:
        """Where an experiment is."""
        return Path(self.out) / name

    def of_task(self, name: str) -> list[str]:
        """The flags of a task: its file in --tasks, or what the Hub has."""
        return [f"--task={name}", *self.file("data", "mmlu_test*" if name == "mmlu" else f"{name}_*")]

    def file(self, flag: str, pattern: str) -> list[str]:
        """The flag that names a file of --tasks; none without them.

        Raises:
            UserError: there is no such file, or more than one.
        """
        if self.tasks is None:
            return []
        found = sorted(Path(self.tasks).glob(f"{pattern}.jsonl"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise UserError(f"--tasks={self.tasks}: one file {pattern}.jsonl is needed; there is {names}")
        return [f"--{flag}={found[0]}"]


TOPICS = {
    "Model, texts and tasks": {
        "model": Doc("Directory or Hub name of a model", unset="the bundled mini-llama"),
        "dtype": Doc("Of the weights, float32 or bfloat16", unset="float32 on CPU, bfloat16 elsewhere"),
        "texts": Doc("As for jaxcram cram: stories, passages, a file, a directory or a Hub name"),
        "tasks": Doc(
            "Directory of hellaswag_*.jsonl, arc_easy_*.jsonl, mmlu_test*.jsonl and mmlu_dev*.jsonl",
            unset="they come from the Hub",
        ),
    },
    "Experiments": {
        "out": Doc("Where their directories are"),
        "only": Doc("Names of experiments", unset="all of them"),
        "num_samples": Doc(
            "How many texts; a third of them at four learning rates, at most 16 to reconstruct, 2 from seeds",
            "texts",
        ),
        "max_tokens": Doc("Cut the targets to this length", "tokens"),
        "learning_rate": Doc("Of all but `rates`"),
        "items": Doc("How many items of each task; a sixteenth of them for mmlu_full_prefix", "items"),
        "grid": Doc("Points of the landscape's mesh along each side", "points"),
    },
    "Results": program.RESULTS,
}


# The experiment whose directory another one reads.
OF = {
    "path": "cram",
    "around": "cram",
    "solutions": "rates",
    "set_of_seeds": "seeds",
    "knockout": "hellaswag",
}


def experiments(command: Command) -> dict[str, Callable[[], list[str]]]:
    """What makes the arguments of `jaxcram` for each experiment, in their order; without --out."""
    dtype = [] if command.dtype is None else [f"--dtype={command.dtype}"]
    model = [*([] if command.model is None else [f"--model={command.model}"]), *dtype]
    texts = [*model, f"--texts={command.texts}", f"--max_tokens={command.max_tokens}"]
    rate, items = f"--learning_rates={command.learning_rate}", f"--limit={command.items}"
    some, few, sixteenth = command.num_samples, max(1, command.num_samples // 3), max(1, command.items // 16)
    grid = f"--grid={command.grid}"

    def of(name: str) -> str:
        return str(command.directory(OF[name]))

    def evaluated(task: str, *more: str) -> list[str]:
        return ["evaluate", *model, rate, *command.of_task(task), *more]

    def generated(mode: str, limit: str) -> list[str]:
        shots = command.file("shots_data", "mmlu_dev*")
        return evaluated("mmlu", f"--generative={mode}", *shots, limit)

    return {
        "cram": lambda: ["cram", *texts, f"--num_samples={some}", rate],
        "path": lambda: ["analyse", of("path")],
        "around": lambda: ["analyse", of("around"), "--analyses=reconstruction,landscape", grid],
        "rates": lambda: ["cram", *texts, f"--num_samples={few}", f"--learning_rates={RATES}"],
        "solutions": lambda: ["analyse", of("solutions"), "--analyses=solutions,lines"],
        "seeds": lambda: ["cram", *texts, f"--num_samples={min(2, some)}", rate, f"--seeds={SEEDS}"],
        "set_of_seeds": lambda: ["analyse", of("set_of_seeds"), "--analyses=seeds"],
        "reconstruct": lambda: [
            *("reconstruct", *texts, f"--num_samples={min(16, some)}", "--num_memory=16", rate)
        ],
        "hellaswag": lambda: evaluated("hellaswag", items),
        "hellaswag_progressive": lambda: evaluated("hellaswag", items, "--mode=progressive"),
        "arc_easy": lambda: evaluated("arc_easy", items),
        "mmlu_few_shot": lambda: generated("few_shot", items),
        "mmlu_random": lambda: generated("random", items),
        "mmlu_full_prefix": lambda: generated("full_prefix", f"--limit={sixteenth}"),
        "knockout": lambda: ["knockout", of("knockout"), *dtype, items],
    }


def run(arguments: list[str]) -> None:
    """Run a command of jaxcram and show it; signals reach it, and it ends by itself.

    Raises:
        SystemExit: it did not end well, with its exit code; it has said why.
    """
    print(f"\njaxcram {shlex.join(arguments)}", flush=True)
    with subprocess.Popen([*program.JAXCRAM, *arguments]) as child:
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        while child.returncode is None:
            try:
                child.wait()
            except KeyboardInterrupt:  # which the terminal has sent to the command too
                continue
        signal.signal(signal.SIGTERM, before)
    if child.returncode:
        sys.exit(child.returncode)


def found(directory: Path) -> dict[str, Any]:
    """What an experiment wrote: the summary of a run without its lanes, or the columns of an analysis."""
    if (analysis := directory / "analysis.json").exists():
        return short({"columns": json.loads(analysis.read_text())["columns"]})
    summary = json.loads((directory / "summary.json").read_text())
    return short({name: value for name, value in summary.items() if name not in ("lanes", "example")})


def short(value: Any) -> Any:
    """The value, with absolute paths and those of flags cut to their last part."""
    if isinstance(value, Mapping):
        return {name: short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [short(one) for one in value]
    return re.sub(r"^(--\w+=|)/.*?([^/]*)/*$", r"\1\2", value) if isinstance(value, str) else value


def machine() -> dict[str, Any]:
    """`program.machine` as another process sees it: here it would keep the accelerator from the commands."""
    code = "import json; from common import program; print(json.dumps(program.machine()))"
    here = Path(__file__).resolve().parent
    told = subprocess.run([sys.executable, "-c", code], cwd=here, check=True, capture_output=True, text=True)
    return json.loads(told.stdout.splitlines()[-1])


def main(command: Command) -> None:
    for name in command.chosen:
        of = OF.get(name, name)
        if of not in command.chosen and not (command.directory(of) / "summary.json").exists():
            raise UserError(f"--only: {name} needs the experiment {of}, which is not finished; add it")
    made = {name: make() for name, make in experiments(command).items() if name in command.chosen}
    program.write_records(command.json, [])  # or a path that cannot be written would be found out in the end
    measured_on = machine()
    print(measured_on)
    for name, arguments in made.items():
        run([*arguments, f"--out={command.directory(name)}"])
        record = {"experiment": name, "command": short(arguments), "found": found(command.directory(name))}
        program.write_records(command.json, [record], benchmark="paper", machine=measured_on)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
