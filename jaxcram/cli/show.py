"""`jaxcram show`: the table and the figure of a run, again."""

import dataclasses
import os
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


TOPICS = {"What is shown": {"run": Doc("Directory of a finished run, the --out of jaxcram cram")}}


def run(command: Command) -> None:
    """Prints the table of a run and draws its figure."""
    from jaxcram import api

    present(api.load_run(command.run))


def present(finished: "Run") -> None:
    """Prints a run's table and a sample, draws its figure, and says where everything lies."""
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
    print(f"rows      {finished.path / 'rows'} (Parquet, a file a lane, a row a stage)")
    print(f"summary   {finished.path / 'summary.json'}")
    print(f"settings  {finished.path / 'settings.json'}")


def draw(finished: "Run") -> str:
    """Draws the figure of a run into its directory; the path of the PNG, or why there is none.

    The run is done, and matplotlib and the disk have no say in that.
    """
    try:
        return _drawn(finished)
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return f"none could be drawn: {printable(why, keep='')}"


def _drawn(finished: "Run") -> str:
    # Any other fails the import of matplotlib where it is not there, as that of a notebook is not.
    os.environ["MPLBACKEND"] = "agg"
    from jaxcram.figures import run as figures

    texts = len({lane["sample_id"] for lane in finished.summary["lanes"]})
    model = printable(finished.summary["model"].rstrip("/").rpartition("/")[2], keep="")[:80]
    figure = figures.run_figure(
        finished.rows(figures.COLUMNS),
        finished.summary,
        title=f"{finished.summary['mode'].capitalize()} cramming of {texts} texts into {model}",
    )
    path = finished.path / "figure.png"
    disk.replace(path, figures.png(figure))
    return str(path)
