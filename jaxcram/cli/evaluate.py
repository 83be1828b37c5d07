"""`jaxcram evaluate`: crams the contexts of a task's items, and asks what the model answers after them."""

import dataclasses
from typing import TYPE_CHECKING

from jaxcram.cli import drawing, procedure
from jaxcram.cli.flags import Doc
from jaxcram.cli.spread import TOPIC, Spread
from jaxcram.cram.settings import CramSettings
from jaxcram.evaluate.settings import CRAM, TaskSettings
from jaxcram.evaluate.tasks.registry import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxcram.experiments.evaluation import Evaluation

RESUMES = procedure.RESUMES

TASK = {
    "task": Doc(f"One of {', '.join(TASKS)}; cloze is bundled"),
    "data": Doc(
        "Items in the columns of the task's Hub data set: a .jsonl, .json, .csv, .tsv or .parquet file, or "
        "another Hub data set as NAME or NAME:CONFIG",
        unset="the task's own, from the Hub",
    ),
    "limit": Doc("Number of items, from the first", "items", "all"),
    "samples": Doc("Ids of the items to take instead, comma-separated row numbers from 0", unset="all"),
    "shots_data": Doc("Where the solved questions of mmlu come from, as --data", unset="the task's own"),
    "num_shots": Doc("Solved questions before each one, with --generative", "questions", unset="5"),
    "generative": Doc(
        "Generate the answers of mmlu, after its solved questions: few_shot crams those, full_prefix the "
        "question too, random puts a random vector in their place, none leaves all as text",
        unset="score the endings",
    ),
    "bos": Doc("Begin each text with the BOS token, or not", unset="as the tokenizer says"),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags of `jaxcram evaluate`."""

    model: str | None = None
    dtype: str | None = None
    out: str | None = None
    checkpoint_minutes: float = 10.0
    task: TaskSettings = dataclasses.field(default_factory=TaskSettings)
    settings: CramSettings = dataclasses.field(default_factory=lambda: CRAM)
    spread: Spread = dataclasses.field(default_factory=Spread)


TOPICS = {
    "Model and items": {**procedure.MODEL, **TASK},
    "Output": {
        "out": Doc(
            "Directory of the evaluation; the same command in the same directory resumes it",
            unset="a new one under runs/",
        ),
        **procedure.STORED,
    },
    **procedure.TOPICS,
    **TOPIC,
}


def run(command: Command) -> None:
    """Evaluates, then shows the table, the figure and the files."""
    from jaxcram import api
    from jaxcram.cli import streams
    from jaxcram.devices import processes

    with processes.joined(*command.spread.process):
        model = api.load_model(command.model, dtype=command.dtype, mesh=command.spread.mesh)
        found = api.evaluate(
            model,
            command.task,
            out=command.out,
            settings=command.settings,
            checkpoint_minutes=command.checkpoint_minutes,
        )
        if processes.number() == 0:
            with streams.work_is_kept():
                present(found)


def present(found: "Evaluation") -> None:
    """Prints the table of an evaluation, draws its figure, and lists its files."""

    def figure() -> "Figure":
        from jaxcram.figures.evaluation import evaluation_figure, generation_figure

        summary, draw = found.summary, generation_figure if found.generative else evaluation_figure
        how = f", {summary['mode']} cramming" if "mode" in summary else ""
        return draw(summary, f"{summary['task']}{how}, {drawing.model_name(summary['model'])}")

    print(found.table())
    print()
    print(f"figure    {drawing.keep(found.path, 'figure', figure)}")
    if (found.path / "crams").exists():
        print(f"crams     {found.path / 'crams'} (a run of jaxcram cram)")
    if found.generative:
        print(f"answers   {found.path / 'answers'} (Parquet, one row per item and mode)")
    else:
        print(f"scores    {found.path / 'scores'} (Parquet, one row per score and ending)")
    print(f"summary   {found.path / 'summary.json'}")
    print(f"settings  {found.path / 'settings.json'}")
