"""`jaxcram analyse`: the geometry of the paths, surprisal and capacity of one or several runs."""

import contextlib
import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcram.cli import drawing
from jaxcram.cli.flags import Doc, positional
from jaxcram.errors import UserError

if TYPE_CHECKING:
    from jaxcram.api import Findings

FORMATS = ("table", "csv", "json")


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    runs: tuple[str, ...] = positional()
    format: str = "table"
    out: str | None = None
    analyses: tuple[str, ...] | None = None
    model: str | None = None
    grid: int = 60


TOPICS = {
    "Runs": {
        "runs": Doc("Directories of runs of progressive cramming, each a column for each learning rate"),
        "analyses": Doc(
            "Names of the analyses, comma-separated: trajectory, walk, surprisal, capacity, solutions, "
            "seeds; and lines, reconstruction, landscape, which ask the model and take minutes",
            unset="all that do not ask the model",
        ),
        "model": Doc(
            "Directory or Hub name of the model of all these runs, if it has moved",
            unset="as recorded in each run",
        ),
        "grid": Doc("Points of a landscape's mesh along each of its sides", "points"),
    },
    "Output": {
        "format": Doc(
            "What is printed: table; csv, a line a lane, or, if only solutions, seeds, lines or landscape "
            "are named, a line for each of their rows; or json, with lanes, these rows, the summaries over "
            "all lanes, and those of each column"
        ),
        "out": Doc(
            "Directory for the figures (PNG and PDF) and analysis.json, the same as --format=json",
            unset="nothing is written",
        ),
    },
}


def run(command: Command) -> None:
    """Analyses runs, prints what was found, and leaves figures and analysis.json in a directory."""
    if command.format not in FORMATS:
        raise UserError(f"--format={command.format} must be one of {', '.join(FORMATS)}")
    from jaxcram import api
    from jaxcram.results import disk
    from jaxcram.results.paths import expanded

    out = None if command.out is None else expanded(command.out)
    with contextlib.nullcontext() if out is None else disk.folder(out):
        found = api.analyse(
            *command.runs, analyses=command.analyses or (), grid=command.grid, model=command.model
        )
    if out is not None:
        disk.replace(out / "analysis.json", found.json().encode() + b"\n")
    print(getattr(found, command.format)())
    if out is not None:
        # Standard output may be piped into a program that reads CSV or JSON.
        target = sys.stdout if command.format == "table" else sys.stderr
        print("\n".join(["", *_files(found, out), f"analysis  {out / 'analysis.json'}"]), file=target)


def _files(found: "Findings", out: Path) -> list[str]:
    """Draws all figures and writes the other files; returns a line for each."""
    from jaxcram.results import disk

    lines = []
    for name in found.drawn():
        lines.append(f"figure    {drawing.keep(out, name, functools.partial(found.figure, name))}")
    for name, content in found.files().items():
        disk.replace(out / name, content)
        lines.append(f"file      {out / name}")
    return lines
