"""`jaxcram cram`: crams texts into embeddings, and decodes every exact prefix back."""

import dataclasses
from pathlib import Path

from jaxcram.cli import procedure
from jaxcram.cli.flags import Doc
from jaxcram.cli.show import AS_PUBLISHED, PER_TEXT
from jaxcram.cli.spread import TOPIC, Spread
from jaxcram.cram.settings import CramSettings
from jaxcram.text.sources import TextSettings

RESUMES = "finished lanes are kept; the same command with the same --out runs the missing ones"


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags of `jaxcram cram`."""

    model: str | None = None
    dtype: str | None = None
    out: str | None = None
    checkpoint_minutes: float = 10.0
    profile_dir: str | None = None
    per_text: bool = False
    as_published: bool = False
    dry_run: bool = False
    source: TextSettings = dataclasses.field(default_factory=TextSettings)
    settings: CramSettings = dataclasses.field(default_factory=CramSettings)
    spread: Spread = dataclasses.field(default_factory=Spread)


TOPICS = {
    "Model and texts": {
        **procedure.MODEL,
        **procedure.TEXTS,
    },
    "Output": {
        "out": Doc(
            "Directory of the run; the same command in the same directory resumes it",
            unset="a new one under runs/",
        ),
        "per_text": PER_TEXT,
        "as_published": AS_PUBLISHED,
        "dry_run": Doc("Print what the run would do, and compute and write nothing"),
        "profile_dir": Doc("Directory for a JAX profiler trace of a few chunks", unset="no trace"),
        **procedure.STORED,
    },
    **procedure.TOPICS,
    **TOPIC,
}


def run(command: Command) -> None:
    """Crams, then shows the run: its table, one original beside its decoded text, its figures and files."""
    from jaxcram import api
    from jaxcram.cli import show, streams
    from jaxcram.devices import processes

    traces = set() if command.dry_run else _traces(command.profile_dir)
    with processes.joined(*command.spread.process):
        model = api.load_model(command.model, dtype=command.dtype, mesh=command.spread.mesh)
        if command.dry_run:
            planned = api.outline(model, command.source, out=command.out, settings=command.settings)
            if processes.number() == 0:
                print(planned)
            return
        run = api.cram(
            model,
            command.source,
            out=command.out,
            settings=command.settings,
            checkpoint_minutes=command.checkpoint_minutes,
            profile_dir=command.profile_dir,
        )
        if processes.number() == 0:
            # Lanes that an earlier start finished without log_every have no curves.
            curves = command.settings.log_every > 0 and run.has_curves
            # A published configuration with --mode=full still has the flag.
            as_published = command.as_published and command.settings.stages.mode == "progressive"
            with streams.work_is_kept():
                show.present(run, per_text=command.per_text, as_published=as_published, curves=curves)
                for trace in sorted(_traces(command.profile_dir) - traces):
                    print(f"trace     {trace} (for XProf, TensorBoard or Perfetto)")


def _traces(directory: str | None) -> set[Path]:
    """The directories of profiler traces under a directory, including those of earlier runs."""
    return {file.parent for file in Path(directory).rglob("*.xplane.pb")} if directory else set()
