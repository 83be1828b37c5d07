"""`jaxcram import`: reads published trajectories, or an export of jaxcram, as a run."""

import dataclasses

from jaxcram.cli.flags import Doc, positional


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    out: str
    sources: tuple[str, ...] = positional()
    split: str = "baseline"
    model: str | None = None
    learning_rate: float | None = None
    seed: int = 0


TOPICS = {
    "Source": {
        "sources": Doc(
            "Folders that datasets' save_to_disk or jaxcram export wrote, Parquet files or folders of them, "
            "or Hub data sets as name:config"
        ),
        "split": Doc("Of a source that has several: baseline or lowdim"),
        "model": Doc("Path or Hub name of the model, for its tokenizer", unset="as the rows name it"),
        "learning_rate": Doc(
            "Of rows that do not tell it, as the published ones (0.5 for Pythia-1.4B, 0.1 for the others)",
            "per step",
            "as the rows tell",
        ),
        "seed": Doc("Of rows that do not tell it", "no unit"),
    },
    "Output": {"out": Doc("Directory of the run; the same command in the same directory resumes")},
}
RESUMES = "start the same command again to finish"


def run(command: Command) -> None:
    """Imports rows as a run, and prints what was left out and the table."""
    from jaxcram import api
    from jaxcram.cli import show

    imported = api.import_run(**dataclasses.asdict(command))
    show.present(imported.run)
    if imported.left_out:
        samples = ", ".join(map(str, imported.left_out))
        print(f"left out: samples {samples}, since their texts do not give back their tokens")
    if imported.rows_left_out:
        print(f"left out: {imported.rows_left_out} rows that a batch wrote after the end of a sample of it")
