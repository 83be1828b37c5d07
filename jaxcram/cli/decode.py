"""`jaxcram decode`: the texts back from the embeddings of a run."""

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxcram.cli.flags import Doc
from jaxcram.cli.spread import TOPIC, Spread
from jaxcram.errors import UserError, printable

if TYPE_CHECKING:
    from jaxcram.api import Decoded


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    run: str
    decoder: str = "exact"
    sample_id: int | None = None
    learning_rate: float | None = None
    spread: Spread = dataclasses.field(default_factory=Spread)

    def wanted(self) -> dict[str, Any]:
        """The filters that are set, by the name of what they filter."""
        filters = {"sample_id": self.sample_id, "learning_rate": self.learning_rate}
        return {name: value for name, value in filters.items() if value is not None}


TOPICS = {
    "What is decoded": {
        "run": Doc("Directory of a finished run, the --out of jaxcram cram"),
        "sample_id": Doc("Only this text", "number of the text in its source", "all"),
        "learning_rate": Doc("Only the lanes of this learning rate", "per step", "all"),
    },
    "How": {"decoder": Doc("exact: in the shapes of training; cached: the ordinary key-value cache")},
    **TOPIC,
}


def run(command: Command) -> None:
    """Prints the text of every lane that the filters let through, and whether it is the original."""
    from jaxcram import api, processes

    wanted = command.wanted()
    with processes.joined(*command.spread.process):
        with processes.together():
            finished = api.load_run(command.run)
            if not any(wanted.items() <= lane.items() for lane in finished.summary["lanes"]):
                filters = " and ".join(f"--{name}={value}" for name, value in wanted.items())
                raise UserError(f"no lane of {command.run} has {filters}; look at its summary.json")
        decoded = api.decode(finished, decoder=command.decoder, mesh=command.spread.mesh)
        decoded = [one for one in decoded if wanted.items() <= vars(one).items()]
        if processes.number() == 0:
            print("\n\n".join(map(_paragraph, decoded)))


def _paragraph(one: "Decoded") -> str:
    verdict = "identical" if one.identical else f"differs from the original:\n{one.original}\ndecoded:"
    return printable(
        f"sample {one.sample_id}, learning rate {one.learning_rate:g}, seed {one.seed}: {verdict}\n{one.text}"
    )
