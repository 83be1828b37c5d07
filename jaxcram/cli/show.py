"""`jaxcram show`: the table and the figures of a run, finished or not."""

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxcram import report
from jaxcram.cli.flags import Doc, positional
from jaxcram.errors import printable
from jaxcram.results import disk

if TYPE_CHECKING:
    from jaxcram.api import Run

AS_PUBLISHED = Doc(
    "Also print tokens, gain, trajectory length and PCA 99% as the tables of Tarasov et al. 2026 were "
    "counted, with the stage that failed; in progressive mode only"
)
PER_TEXT = Doc("One table line per text, over all its learning rates and seeds")


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    run: str = positional()
    per_text: bool = False
    as_published: bool = False
    curves: bool = False


TOPICS = {
    "Run": {
        "run": Doc("Directory of a run, the --out of jaxcram cram, finished or not"),
        "per_text": PER_TEXT,
        "as_published": AS_PUBLISHED,
        "curves": Doc(
            "Also draw the curves, if the run had --log_every: loss, accuracy, horizon, learning rate and "
            "embedding norm by step"
        ),
    }
}


def run(command: Command) -> None:
    """Prints the table of a run and draws its figures."""
    from jaxcram import api

    shown = api.load_run(command.run)
    if command.curves:
        shown.curves(["step"])  # raises an error before anything is printed if there are none
    present(shown, per_text=command.per_text, as_published=command.as_published, curves=command.curves)


def present(run: "Run", *, per_text: bool = False, as_published: bool = False, curves: bool = False) -> None:
    """Prints a run's tables and an example, draws its figures, and lists its files."""
    summary = run.counted() if as_published else run.summary
    if not run.finished:
        ended, count = len(run.summary["lanes"]), run.summary["lanes_in_all"]
        print(f"not finished: {ended} of {'?' if count is None else count} lanes have ended")
    tables = report.table(summary, per_text=per_text, as_published=as_published)
    print("\n".join([tables, *report.notes(summary, as_published=as_published)]))
    if run.summary["lanes"]:
        print("\n".join(["", *report.sample(run.summary)]))
    if run.finished:
        print(f"\n{report.speed(run.summary)}")
    print()
    if run.summary["lanes"]:
        print(f"figure    {draw(run)}")
    if curves:
        print(f"          {draw_curves(run)}")
    print(f"rows      {run.path / 'rows'} (Parquet, one file per lane, one row per stage)")
    if curves:
        print(f"curves    {run.path / 'curves'} (Parquet, one file per lane, one row per logged step)")
    if run.finished:
        print(f"summary   {run.path / 'summary.json'}")
    print(f"settings  {run.path / 'settings.json'}")


def draw(run: "Run") -> str:
    """Draws the figure of a run into its directory; returns the path of the PNG, or why there is none.

    Raises:
        UserError: the rows are damaged.
    """
    from jaxcram.analysis.surprisal import COLUMNS

    rows = run.rows(COLUMNS)

    def image() -> bytes:
        from jaxcram.figures import run as figures
        from jaxcram.figures.style import png

        return png(figures.run_figure(rows, run.summary, title=_title(run)))

    return _kept(run, "figure.png", image)


def draw_curves(run: "Run") -> str:
    """Draws the curves of a run into its directory, as `draw`."""

    def image() -> bytes:
        from jaxcram.figures import curves as figures
        from jaxcram.figures.style import png

        return png(figures.curves_figure(run.curves(figures.COLUMNS), title=_title(run)))

    return _kept(run, "curves.png", image)


def _kept(run: "Run", name: str, image: Callable[[], bytes]) -> str:
    """Writes an image into a run's directory; returns its path, or why it failed: a figure is optional."""
    # Importing matplotlib fails if MPLBACKEND names a missing backend, such as a notebook's.
    os.environ["MPLBACKEND"] = "agg"
    try:
        disk.replace(run.path / name, image())
        return str(run.path / name)
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return f"could not be drawn: {printable(why, keep='')}"


def _title(run: "Run") -> str:
    texts = len({lane["sample_id"] for lane in run.summary["lanes"]})
    model = printable(run.summary["model"].rstrip("/").rpartition("/")[2], keep="")[:80]
    crammed = f"{run.summary['mode'].capitalize()} cramming of {texts} text{'' if texts == 1 else 's'}"
    return f"{crammed} into {model}"
