"""The experiments of the paper on one model, in one command: runs them in turn and keeps what they find.

    python benchmarks/paper.py --model=DIR --texts=paragraphs.jsonl --tasks=DIR --out=runs/paper

Each experiment is a `jaxcram` command with a directory of its own in --out, and its progress is shown. Any
can be interrupted: the same command goes on from there, and --only=NAMES runs some of them. One that is
finished is only read again, so remove its directory where a record shall say what this commit finds.

    cram                   texts progressively into one vector: capacity
    path                   the geometry of their trajectories
    around                 principal components, and the landscape around three lanes
    rates                  fewer texts at four learning rates, and
    solutions              how far apart their solutions of the same prefixes are
    reconstruct            up to 0.99 of the tokens, in full, progressively: what greedy decoding makes of it
    hellaswag, hellaswag_progressive, arc_easy        answers with the context crammed
    mmlu_few_shot, mmlu_random, mmlu_full_prefix      generated answers
    knockout               the items of hellaswag, with the vector hidden from layers

A record has the experiment, its command, and `found`: the summary of the run, or the columns of the analysis.
Absolute paths are cut to their last part.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import program
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError

RATES = "0.01,0.1,0.5,1.0"


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
        if unknown := [name for name in self.only if name not in experiments(self)]:
            raise UserError(f"--only: {unknown[0]!r} is unknown; choose from {', '.join(experiments(self))}")

    def of_task(self, name: str) -> list[str]:
        """The flags of a task: its file in --tasks, or what the Hub has."""
        return [f"--task={name}", *self.file("data", f"{name}_*" if name != "mmlu" else "mmlu_test*")]

    def file(self, flag: str, pattern: str) -> list[str]:
        """The flag that names a file of --tasks; none without them.

        Raises:
            UserError: there is no such file.
        """
        if self.tasks is None:
            return []
        found = sorted(Path(self.tasks).glob(f"{pattern}.jsonl"))
        if not found:
            raise UserError(f"--tasks={self.tasks}: there is no {pattern}.jsonl")
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
        "num_samples": Doc("How many texts; a third of them at four learning rates", "texts"),
        "max_tokens": Doc("Cut the targets to this length", "tokens"),
        "learning_rate": Doc("Of all but `rates`"),
        "items": Doc("How many items of each task; a sixteenth of them for mmlu_full_prefix", "items"),
        "grid": Doc("Points of the landscape's mesh along each side", "points"),
    },
    "Results": program.RESULTS,
}


def experiments(command: Command) -> dict[str, Callable[[], list[str]]]:
    """What makes the arguments of `jaxcram` for each experiment, in their order; without --out."""
    out = Path(command.out)
    dtype = [] if command.dtype is None else [f"--dtype={command.dtype}"]
    model = [*([] if command.model is None else [f"--model={command.model}"]), *dtype]
    texts = [*model, f"--texts={command.texts}", f"--max_tokens={command.max_tokens}"]
    rate = f"--learning_rates={command.learning_rate}"
    items, few = f"--limit={command.items}", f"--limit={max(1, command.items // 16)}"
    third = max(1, command.num_samples // 3)
    return {
        "cram": lambda: ["cram", *texts, f"--num_samples={command.num_samples}", rate],
        "path": lambda: ["analyse", str(out / "cram")],
        "around": lambda: [
            *("analyse", str(out / "cram"), "--analyses=reconstruction,landscape"),
            f"--grid={command.grid}",
        ],
        "rates": lambda: ["cram", *texts, f"--num_samples={third}", f"--learning_rates={RATES}"],
        "solutions": lambda: ["analyse", str(out / "rates"), "--analyses=solutions,lines"],
        "reconstruct": lambda: ["reconstruct", *texts, "--num_samples=16", "--num_memory=16", rate],
        "hellaswag": lambda: ["evaluate", *model, rate, *command.of_task("hellaswag"), items],
        "hellaswag_progressive": lambda: [
            *("evaluate", *model, rate, *command.of_task("hellaswag"), items, "--mode=progressive"),
        ],
        "arc_easy": lambda: ["evaluate", *model, rate, *command.of_task("arc_easy"), items],
        **{
            f"mmlu_{mode}": lambda mode=mode: [
                *("evaluate", *model, rate, *command.of_task("mmlu"), f"--generative={mode}"),
                *command.file("shots_data", "mmlu_dev*"),
                few if mode == "full_prefix" else items,
            ]
            for mode in ("few_shot", "random", "full_prefix")
        },
        "knockout": lambda: ["knockout", str(out / "hellaswag"), *dtype, items],
    }


def run(arguments: list[str]) -> float:
    """Seconds that a command of jaxcram takes, shown as it runs; it ends by itself when it is interrupted.

    Raises:
        UserError: it failed; it has said why.
    """
    code = "import sys; from jaxcram.cli.main import main; sys.exit(main(sys.argv[1:]))"
    print(f"\njaxcram {shlex.join(arguments)}", flush=True)
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as child:
        while child.returncode is None:
            try:
                child.wait()
            except KeyboardInterrupt:  # the child has it too, and saves its lanes
                continue
    if child.returncode:
        raise UserError(f"jaxcram {arguments[0]} ended with {child.returncode}; the same command goes on")
    return time.perf_counter() - start


def found(directory: Path) -> dict[str, Any]:
    """What an experiment wrote: the summary of a run without its lanes, or the columns of an analysis."""
    if (analysis := directory / "analysis.json").exists():
        return _short({"columns": json.loads(analysis.read_text())["columns"]})
    summary = json.loads((directory / "summary.json").read_text())
    return _short({name: value for name, value in summary.items() if name not in ("lanes", "example")})


def _short(value: Any) -> Any:
    """The value, with absolute paths and those of flags cut to their last part."""
    if isinstance(value, Mapping):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return re.sub(r"^(--\w+=|)/.*/", r"\1", value) if isinstance(value, str) else value


def main(command: Command) -> None:
    records = []
    commands = {
        name: [*make(), f"--out={Path(command.out) / name}"]
        for name, make in experiments(command).items()
        if name in (command.only or (name,))
    }
    for name, arguments in commands.items():
        seconds = run(arguments)
        result = found(Path(command.out) / name)
        told = [_short(word) for word in arguments]
        records.append({"experiment": name, "command": told, "wall_s": seconds, "found": result})
    machine = program.machine()
    print(f"\n{machine}")
    print(program.table(records, {"experiment": "", "wall_s": ".0f"}))
    program.write_records(command.json, records, benchmark="paper", machine=machine)


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
