"""`jaxcram show`: the table and the figure of a run, again."""

import dataclasses
from typing import TYPE_CHECKING

from jaxcram import disk, report
from jaxcram.cli.flags import Doc
from jaxcram.errors import printable

if TYPE_CHECKING:
    from jaxcram.api import Run


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    run: str
    curves: bool = False


TOPICS = {
    "What is shown": {
        "run": Doc("Directory of a finished run, the --out of jaxcram cram"),
        "curves": Doc(
            "Draw the curves of a run with --log_every too: loss, accuracy, horizon, learning rate and "
            "embedding norm by step"
        ),
    }
}


def run(command: Command) -> None:
    """Prints the table of a run and draws its figure."""
    from jaxcram import api

    finished = api.load_run(command.run)
    if command.curves:
        finished.curves(["step"])  # an error, before anything is shown, where there are none
    present(finished, curves=command.curves)


def present(finished: "Run", *, curves: bool = False) -> None:
    """Prints a run's table and a sample, draws its figures, and says where everything lies."""
    print(finished.table())
    if example := finished.summary["example"]:
        print(
            f"\nsample {example['sample_id']}, learning rate {example['learning_rate']:g}, up to its horizon:"
        )
        print(f"original: {printable(example['original'])}")
        print(f"decoded:  {printable(example['decoded'])}")
        print("identical" if example["identical"] else "NOT identical")
    print(f"\n{report.speed(finished.summary)}")
    print(f"\nfigure    {draw(finished)}")
    if curves:
        print(f"          {draw_curves(finished)}")
    print(f"rows      {finished.path / 'rows'} (Parquet, a file a lane, a row a stage)")
    if curves:
        print(f"curves    {finished.path / 'curves'} (Parquet, a file a lane, a row every few steps)")
    print(f"summary   {finished.path / 'summary.json'}")
    print(f"settings  {finished.path / 'settings.json'}")


def draw(finished: "Run") -> str:
    """Draws the figure of a run into its directory; the path of the PNG.

    Raises:
        StoppedError: the disk is full or gone.
        UserError: the directory cannot be written.
    """
    from jaxcram.figures import run as figures
    from jaxcram.figures.style import png

    rows, title = finished.rows(figures.COLUMNS), _title(finished)
    image = png(figures.run_figure(rows, finished.summary, title=title))
    disk.replace(finished.path / "figure.png", image)
    return str(finished.path / "figure.png")


def draw_curves(finished: "Run") -> str:
    """Draws the curves of a run, as `draw` does its figure.

    Raises:
        StoppedError, UserError: as there, or the run keeps no curves.
    """
    from jaxcram.figures import curves as figures
    from jaxcram.figures.style import png

    image = png(figures.curves_figure(finished.curves(figures.COLUMNS), title=_title(finished)))
    disk.replace(finished.path / "curves.png", image)
    return str(finished.path / "curves.png")


def _title(finished: "Run") -> str:
    texts = len({lane["sample_id"] for lane in finished.summary["lanes"]})
    model = printable(finished.summary["model"].rstrip("/").rpartition("/")[2], keep="")[:80]
    return f"{finished.summary['mode'].capitalize()} cramming of {texts} texts into {model}"
