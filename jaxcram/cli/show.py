"""`jaxcram show`: the table and the figures of a run, of cram also where it is not finished."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxcram import report
from jaxcram.cli import drawing
from jaxcram.cli.flags import Doc, positional
from jaxcram.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    from jaxcram.cli import evaluate, knockout, reconstruct

    experiments: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], None]]] = {
        "evaluate": ("an evaluation", api.load_evaluation, evaluate.present),
        "knockout": ("a knockout run", api.load_knockout, knockout.present),
        "reconstruct": ("a run of reconstruct", api.load_reconstructions, reconstruct.present),
    }
    if (program := api.program_of(command.run)) in experiments:
        what, load, present_it = experiments[program]
        _refuse(command, what)
        present_it(load(command.run))
        return
    shown = api.load_run(command.run)
    if command.curves:
        shown.curves(["step"])  # raises an error before anything is printed if there are none
    present(shown, per_text=command.per_text, as_published=command.as_published, curves=command.curves)


def _refuse(command: Command, what: str) -> None:
    """Refuses flags that are about the lanes of a cram run."""
    for name in ("per_text", "as_published", "curves"):
        if getattr(command, name):
            raise UserError(f"--{name}: {command.run} is {what}; leave it out, or show its crams")


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
    if run.finished and "imported" not in run.settings:
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

    def figure() -> "Figure":
        from jaxcram.figures import run as figures

        return figures.run_figure(rows, run.summary, title=_title(run))

    return drawing.keep(run.path, "figure", figure, pdf=False)


def draw_curves(run: "Run") -> str:
    """Draws the curves of a run into its directory, as `draw`."""

    def figure() -> "Figure":
        from jaxcram.figures import curves as figures

        return figures.curves_figure(run.curves(figures.COLUMNS), title=_title(run))

    return drawing.keep(run.path, "curves", figure, pdf=False)


def _title(run: "Run") -> str:
    texts = len({lane["sample_id"] for lane in run.summary["lanes"]})
    model = drawing.model_name(run.summary["model"])
    crammed = f"{run.summary['mode'].capitalize()} cramming of {texts} text{'' if texts == 1 else 's'}"
    return f"{crammed} into {model}"
