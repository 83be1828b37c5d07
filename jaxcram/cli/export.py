"""`jaxcram export`: writes a run as the published trajectories are, for scripts that read those."""

import dataclasses

from jaxcram.cli.flags import Doc, positional


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    out: str
    run: str = positional()
    format: str = "published"
    model: str | None = None
    learning_rate: float | None = None
    seed: int | None = None


TOPICS = {
    "Run": {
        "run": Doc("Directory of a run, the --out of jaxcram cram --trajectory=all"),
        "model": Doc("Path or Hub name of the run's model, if it has moved", unset="as recorded in the run"),
        "learning_rate": Doc("Only the lanes of this learning rate", "per step", "all"),
        "seed": Doc("Only the lanes of this seed", "no unit", "all"),
    },
    "Output": {
        "out": Doc(
            "New directory; in it a data set per learning rate and seed, which datasets.load_from_disk reads"
        ),
        "format": Doc("published: the columns of mrsndmn/progressive_cramming_trajectories"),
    },
}


def run(command: Command) -> None:
    """Exports a run, and lists the data sets."""
    from jaxcram import api

    for folder in api.export_run(**dataclasses.asdict(command)):
        print(folder)
