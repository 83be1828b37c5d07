"""A grid of models, modes and learning rates; each point is a run of `jaxcram cram` in its own directory.

    python launch/sweep.py --models=smollm2_135m,pythia_160m --modes=progressive,full \
        --learning_rates=0.1,0.5 --root=runs/grid --target=local --parallel=2 -- --num_samples=10

Further flags of `jaxcram cram`, for every run, follow --. The learning rates of a model and mode are lanes of
one run, because lanes share passes; --split_learning_rates makes one run of each. Started again, the same
command resumes every unfinished run from its directory.

Exit codes: 0 all runs are finished (or submitted to Slurm or Kubernetes); 1 some failed; 2 a user error; 130
and 143 ended by SIGINT and SIGTERM, after the running runs have ended.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import processes
import targets
from processes import Job
from targets import Run, Start

from jaxcram.cli import cram, flags
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError

CONFIGS = targets.CHECKOUT / "configs"
OF_THE_GRID = ("model", "mode", "learning_rates", "out")


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grid."""

    models: tuple[str, ...] = ("bundled",)
    modes: tuple[str, ...] = ("progressive",)
    learning_rates: tuple[float, ...] | None = None
    split_learning_rates: bool = False
    root: str = "runs/sweep"


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    grid: Grid = dataclasses.field(default_factory=Grid)
    start: Start = dataclasses.field(default_factory=Start)
    target: str = "local"
    parallel: int = 1
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.target not in targets.COMMANDS:
            raise UserError(f"--target={self.target} is unknown: choose one of {', '.join(targets.COMMANDS)}")
        if self.parallel < 1:
            raise UserError(f"--parallel={self.parallel} must be at least 1")


TOPICS = {
    "Grid": {
        "models": Doc(
            "Flagfiles, by name in configs/ or by a path that ends in .flags, and --model values with a /"
        ),
        "modes": Doc("progressive, full, or both"),
        "learning_rates": Doc(
            "Peaks of the learning-rate schedule, comma-separated", "per step", "each model's own"
        ),
        "split_learning_rates": Doc("One run for each learning rate; otherwise they are lanes of one run"),
        "root": Doc("Directory of the runs' directories"),
    },
    "Start": {
        "target": Doc("local, slurm, tpu or kubernetes"),
        "target_flags": Doc(
            "Flags of sbatch, of tpu_pod.sh, or for Kubernetes --image, --claim, --accelerator, --topology, "
            "--hosts, --devices, --spot, --checkout; quoted as for a shell"
        ),
        "parallel": Doc("Runs at a time, for local and tpu", "runs"),
        "restarts": Doc("Restarts of one run after preemption, a lost process or a signal", "restarts"),
        "program": Doc("The program; a path if jaxcram is not on the PATH"),
        "dry_run": Doc("Print the commands, one per line, and do nothing"),
    },
}


def expand(grid: Grid, extra: Sequence[str]) -> list[Run]:
    """The runs of a grid, in the order models, modes, learning rates.

    Args:
        grid: the models, modes and learning rates.
        extra: further flags of `jaxcram cram`, for every run.

    Raises:
        UserError: the flags of a run are invalid, or two runs would share a directory.
    """
    for word in extra:
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and name in OF_THE_GRID:
            raise UserError(f"{word} after --: the sweep itself sets --{name}")
    runs = [
        run
        for model, mode in itertools.product(grid.models, grid.modes)
        for run in _runs_of(model, mode, grid, tuple(extra))
    ]
    for one, other in itertools.combinations(runs, 2):
        if one.out == other.out:
            raise UserError(f"two runs of the grid would share {one.out}; sweep them with different --root")
    return runs


def _runs_of(model: str, mode: str, grid: Grid, extra: tuple[str, ...]) -> Iterator[Run]:
    flagfile = _flagfile(model)
    chosen = () if flagfile else (f"--model={model}",)
    shared = (*chosen, *extra, f"--mode={mode}")
    rates = grid.learning_rates
    if rates is None:
        asked = flags.parse(cram.Command, cram.TOPICS, Run("", flagfile, shared, grid.root).arguments()[1:])
        rates = asked.settings.learning_rates
    for lanes in [(rate,) for rate in rates] if grid.split_learning_rates else [rates]:
        written = [f"{rate:.12g}" for rate in lanes]
        short = re.sub("[^A-Za-z0-9._]+", "-", Path(model.removesuffix(".flags")).name)
        name = f"{short}-{mode}-lr{'_'.join(written)}"
        of_run = (*shared, f"--learning_rates={','.join(written)}")
        run = Run(name, flagfile, of_run, f"{grid.root.rstrip('/') or '/'}/{name}".replace("//", "/"))
        flags.parse(cram.Command, cram.TOPICS, run.arguments()[1:])
        yield run


def _flagfile(model: str) -> Path | None:
    """The flagfile of `model`, or None if it is a value of --model."""
    if model.endswith(".flags"):
        return Path(model)
    named = CONFIGS / f"{model}.flags"
    if "/" not in model and named.is_file():
        near = os.path.relpath(named)
        return named if near.startswith("..") else Path(near)
    if "/" in model:
        return None
    known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.flags")))
    raise UserError(
        f"--models: {model!r} is neither a flagfile of configs/ ({known}) nor a model (owner/name or a path)"
    )


def main(command: Command, extra: Sequence[str]) -> int:
    """Prints or starts the runs; returns the exit code."""
    start, target = command.start, command.target
    runs = expand(command.grid, extra)
    commands = {run: targets.COMMANDS[target](run, start) for run in runs}
    if target == "kubernetes":
        for run in runs:
            targets.jobset(run, start)  # raises errors in a dry run too
    if command.dry_run:
        print("\n".join(map(shlex.join, commands.values())))
        return 0
    _make_root(command.grid.root)
    if target == "kubernetes":
        targets.write_manifests(runs, start)
    waits = target in ("local", "tpu")
    # This interpreter's environment comes first, so that its jaxcram is found without activation.
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}
    program = next(iter(commands.values()))[0]
    if shutil.which(program, path=env["PATH"]) is None:
        raise UserError(
            f"{program} is not an executable on the PATH; install it, or use --dry_run to see the commands"
        )
    outcome = processes.run_all(
        [Job(run.name, argv, Path(f"{run.out}.log") if waits else None) for run, argv in commands.items()],
        parallel=command.parallel if waits else 1,
        restarts=start.restarts if target == "local" else 0,
        env=env,
    )
    return _report(outcome, len(runs))


def _make_root(root: str) -> None:
    try:
        os.makedirs(root, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(
            f"--root={root} cannot be written ({error.strerror}); choose another directory"
        ) from error


def _report(outcome: processes.Outcome, count: int) -> int:
    """Prints the failed runs; returns the exit code."""
    for name, code in outcome.failed.items():
        print(f"failed: {name}: {processes.ended(code)}", file=sys.stderr)
    if outcome.signal:
        left = count - len(outcome.codes)
        print(f"interrupted, {left} not started; the same command resumes", file=sys.stderr)
        return 128 + outcome.signal
    return 1 if outcome.failed else 0


def start() -> int:
    """Parses the command line and runs `main`; a user error is one line and exit code 2."""
    ours = sys.argv[1:]
    cut = ours.index("--") if "--" in ours else len(ours)
    ours, extra = ours[:cut], ours[cut + 1 :]
    if {"--help", "-h"} & set(ours):
        print(f"{__doc__}\n{flags.explain(Command, TOPICS)}")
        return 0
    try:
        return main(flags.parse(Command, TOPICS, ours), extra)
    except UserError as error:
        print(f"sweep.py: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(start())
