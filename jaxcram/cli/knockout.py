"""`jaxcram knockout`: bars the text from its crammed embedding at some layers."""

import dataclasses
from typing import TYPE_CHECKING

from jaxcram.cli import drawing, procedure
from jaxcram.cli.evaluate import TASK
from jaxcram.cli.flags import Doc, positional
from jaxcram.cli.spread import TOPIC, Spread
from jaxcram.cram.settings import CramSettings
from jaxcram.errors import UserError
from jaxcram.evaluate.settings import CRAM, KnockoutSettings, TaskSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxcram.experiments.knockout import Knockout

RESUMES = procedure.RESUMES


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags of `jaxcram knockout`."""

    run: str | None = positional(default=None)
    model: str | None = None
    dtype: str | None = None
    out: str | None = None
    checkpoint_minutes: float = 10.0
    task: TaskSettings = dataclasses.field(default_factory=TaskSettings)
    conditions: KnockoutSettings = dataclasses.field(default_factory=KnockoutSettings)
    settings: CramSettings = dataclasses.field(default_factory=lambda: CRAM)
    spread: Spread = dataclasses.field(default_factory=Spread)


TOPICS = {
    "Embeddings": {
        "run": Doc(
            "Directory of a finished evaluation, whose items are taken as they were crammed; or of a run of "
            "cram, of which only the reconstruction is measured. With it, of the flags of items only --limit "
            "and --samples count",
            unset="cram the contexts of --task first",
        ),
        **procedure.MODEL,
        **TASK,
    },
    "Conditions": {
        "protocols": Doc(
            "single (each layer alone), forward (layers 0 to k), reverse (k to the last), comma-separated; "
            "empty where --layers says all"
        ),
        "layers": Doc("Further sets of layers, as 0-3,7; several separated by semicolons", unset="none"),
        "own_row": Doc(
            "Measure every condition also as published code has it, with the memory barred from itself"
        ),
        "scored": Doc("Score of the endings that decides: memory, memory_ending or memory_edge"),
    },
    "Output": {
        "out": Doc(
            "Directory of the knockout run; the same command in the same directory resumes it",
            unset="a new one under runs/",
        ),
        **procedure.STORED,
    },
    **procedure.TOPICS,
    **TOPIC,
}


def run(command: Command) -> None:
    """Measures, then shows the table, the figures and the files."""
    from jaxcram import api
    from jaxcram.cli import streams
    from jaxcram.devices import processes

    _check(command)
    with processes.joined(*command.spread.process):
        recorded = api.crams_of(command.run).settings if command.run else {}
        model = api.load_model(
            command.model or recorded.get("model"),
            dtype=command.dtype or recorded.get("dtype"),
            mesh=command.spread.mesh,
        )
        if command.run is not None:
            found = api.knockout(
                model,
                command.run,
                conditions=command.conditions,
                out=command.out,
                limit=command.task.limit,
                samples=command.task.samples,
            )
        else:
            found = api.knockout(
                model,
                task=command.task,
                conditions=command.conditions,
                out=command.out,
                settings=command.settings,
                checkpoint_minutes=command.checkpoint_minutes,
            )
        if processes.number() == 0:
            with streams.work_is_kept():
                present(found)


def _check(command: Command) -> None:
    """Refuses flags that would not be read."""
    if command.run is None:
        return
    given = dataclasses.replace(command.task, limit=None, samples=None)
    for name, value in dataclasses.asdict(given).items():
        if value != getattr(TaskSettings(), name):
            raise UserError(f"--{name}: the items are those of {command.run}; leave it out, or the run")
    if command.checkpoint_minutes != Command.checkpoint_minutes:
        raise UserError(f"--checkpoint_minutes: {command.run} was crammed already; leave it out")
    if command.settings != CRAM:
        raise UserError(f"{command.run} was crammed already; leave out the settings of the procedure")


def present(found: "Knockout") -> None:
    """Prints the table of a knockout run, draws its figures, and lists its files."""
    summary = found.summary
    title = f"{summary['task'] or 'texts'}, {drawing.model_name(summary['model'])}"

    def layers() -> "Figure":
        from jaxcram.figures.knockout import single_figure

        return single_figure(summary, title)

    def pair() -> "Figure":
        from jaxcram.figures.knockout import cumulative_figure

        return cumulative_figure(summary, title)

    print(found.table())
    print()
    if "single" in summary:
        print(f"figure    {drawing.keep(found.path, 'layers', layers)}")
    if "forward" in summary or "reverse" in summary:
        print(f"figure    {drawing.keep(found.path, 'cumulative', pair)}")
    print(f"sweep     {found.path / 'sweep'} (Parquet, one row per item and condition)")
    print(f"masses    {found.path / 'masses'} (Parquet, one row per item and layer)")
    print(f"summary   {found.path / 'summary.json'}")
    print(f"settings  {found.path / 'settings.json'}")
