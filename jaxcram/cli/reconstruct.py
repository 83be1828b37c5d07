"""`jaxcram reconstruct`: what comes back from embeddings, from teacher forcing and both greedy decoders."""

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxcram.cli import drawing, procedure
from jaxcram.cli.flags import Doc, positional, without
from jaxcram.cli.spread import TOPIC, Spread
from jaxcram.cram.settings import CramSettings
from jaxcram.errors import UserError
from jaxcram.evaluate.settings import RECONSTRUCT
from jaxcram.text.sources import TextSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxcram.experiments.reconstruction import Reconstructions

RESUMES = procedure.RESUMES

_TEXTS = TextSettings(texts="")  # none
_STAGES = "Stages"


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags of `jaxcram reconstruct`."""

    run: tuple[str, ...] | None = positional(default=None)
    limit: int | None = None
    samples: tuple[int, ...] | None = None
    model: str | None = None
    dtype: str | None = None
    out: str | None = None
    checkpoint_minutes: float = 10.0
    source: TextSettings = dataclasses.field(default_factory=lambda: _TEXTS)
    settings: CramSettings = without(RECONSTRUCT, "mode")  # noqa: RUF009 (a field)
    spread: Spread = dataclasses.field(default_factory=Spread)

    def require_one(self) -> None:
        """Refuses runs with texts, neither of them, and runs with what is about texts.

        Raises:
            UserError: as said.
        """
        if (self.run is None) == (not self.source.texts):
            what = "not both" if self.run else "such as --texts=bundled"
            raise UserError(f"give the directory of a run, or texts to cram with --texts=TEXTS, {what}")
        if self.run is None:
            return
        given = self._of_texts(self)
        for name, default in self._of_texts(Command()).items():
            if given[name] != default:
                raise UserError(f"--{name}: a run has been crammed with its own; leave it out")

    @staticmethod
    def _of_texts(command: "Command") -> dict[str, Any]:
        values = {"dtype": command.dtype, "checkpoint_minutes": command.checkpoint_minutes}
        return values | dataclasses.asdict(command.source) | command.settings.resolved()


TOPICS = {
    "Runs, or texts": {
        "run": Doc("Directories of finished runs, each the --out of jaxcram cram", unset="--texts"),
        **procedure.TEXTS,
        "limit": Doc("Take only the first so many texts", "texts", "all"),
        "samples": Doc("Take only the texts with these ids, comma-separated", unset="all"),
        "model": Doc(
            "Directory or Hub name of a model", unset="a run's own; of texts, the bundled mini-llama"
        ),
        "dtype": procedure.MODEL["dtype"],
    },
    "Output": {
        "out": Doc(
            "Directory of the results; the same command in the same directory resumes it",
            unset="reconstruct in a single run, else a new one under runs/",
        ),
        **procedure.STORED,
    },
    **procedure.TOPICS,
    _STAGES: {
        **{name: doc for name, doc in procedure.TOPICS[_STAGES].items() if name != "mode"},
        "full_threshold": Doc(
            "Texts are crammed in full until this teacher-forced accuracy, in full until all is right, and "
            "progressively",
            "0 to 1",
        ),
    },
    **TOPIC,
}


def run(command: Command) -> None:
    """Measures, then shows the table, the figure and the files."""
    from jaxcram import api
    from jaxcram.cli import streams
    from jaxcram.devices import processes

    command.require_one()
    shared: dict[str, Any] = {"out": command.out, "limit": command.limit, "samples": command.samples}
    with processes.joined(*command.spread.process):
        if command.run is not None:
            found = api.reconstruct(command.run, command.model, mesh=command.spread.mesh, **shared)
        else:
            found = api.reconstruct(
                model=api.load_model(command.model, dtype=command.dtype, mesh=command.spread.mesh),
                texts=command.source,
                settings=command.settings,
                checkpoint_minutes=command.checkpoint_minutes,
                **shared,
            )
        if processes.number() == 0:
            with streams.work_is_kept():
                present(found)


def present(found: "Reconstructions") -> None:
    """Prints the table, draws the figure, and lists the files."""

    def figure() -> "Figure":
        from jaxcram.figures.reconstruction import reconstruction_figure

        models = drawing.model_name(*found.summary["models"])
        return reconstruction_figure(found.summary["setups"], models)

    print(found.table())
    print()
    print(f"figure    {drawing.keep(found.path, 'figure', figure)}")
    print(f"rows      {found.path / 'reconstruction.parquet'} (Parquet, one row per lane)")
    for path in dict.fromkeys(one["run"] for one in found.summary["setups"]):
        print(f"run       {path}")
    print(f"summary   {found.path / 'summary.json'}")
    print(f"settings  {found.path / 'settings.json'}")
