"""`jaxcram decode`: decodes the texts from the embeddings of a run."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxcram.cli.flags import Doc, positional
from jaxcram.cli.spread import TOPIC, Spread
from jaxcram.errors import UserError, printable

if TYPE_CHECKING:
    from jaxcram.api import Decoded


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    run: str = positional()
    model: str | None = None
    decoder: str = "exact"
    sample_id: int | None = None
    learning_rate: float | None = None
    spread: Spread = dataclasses.field(default_factory=Spread)

    def wanted(self) -> dict[str, Any]:
        """The filters that are set, by name."""
        filters = {"sample_id": self.sample_id, "learning_rate": self.learning_rate}
        return {name: value for name, value in filters.items() if value is not None}


TOPICS = {
    "Run": {
        "run": Doc("Directory of a run, the --out of jaxcram cram"),
        "model": Doc("Path or Hub name of the run's model, if it has moved", unset="as recorded in the run"),
        "sample_id": Doc("Only this text", "index of the text in its source", "all"),
        "learning_rate": Doc("Only the lanes of this learning rate", "per step", "all"),
    },
    "Decoding": {
        "decoder": Doc("exact: in the shapes of cramming; cached: with an ordinary key-value cache")
    },
    **TOPIC,
}


def run(command: Command) -> None:
    """Prints the decoded text of every lane that passes the filters, and whether it equals the original."""
    from jaxcram import api
    from jaxcram.devices import processes

    wanted = command.wanted()
    with processes.joined(*command.spread.process):
        with processes.together():
            run = api.load_run(command.run)
            lanes = [lane for lane in run.summary["lanes"] if wanted.items() <= lane.items()]
            if not lanes:
                filters = " and ".join(f"--{name}={value}" for name, value in wanted.items())
                raise UserError(
                    f"no lane of {command.run} has {filters}; look at its summary.json"
                    if run.summary["lanes"]
                    else f"{command.run}: no lane has ended yet; wait, or start the run's command again"
                )
        model = api.load_model(
            command.model or run.settings["model"], dtype=run.settings["dtype"], mesh=command.spread.mesh
        )
        decoded = {_key(vars(one)): one for one in api.decode(run, model, decoder=command.decoder)}
        if processes.number() == 0:
            ordered = sorted(lanes, key=_key)
            print("\n\n".join(_paragraph(lane, decoded.get(_key(lane))) for lane in ordered))


def _key(lane: Mapping[str, Any]) -> tuple[int, int, float]:
    """The key of a lane, which is also the order of printing."""
    return lane["sample_id"], lane["seed"], lane["learning_rate"]


def _paragraph(lane: Mapping[str, Any], one: "Decoded | None") -> str:
    """A lane's heading, whether its text was recovered, and the text; None: it has no exact prefix."""
    heading = f"sample {lane['sample_id']}, learning rate {lane['learning_rate']:g}, seed {lane['seed']}"
    if one is None or not one.text:
        return f"{heading}: no text was recovered"
    verdict = "identical" if one.identical else f"differs from the original:\n{one.original}\ndecoded:"
    return printable(f"{heading}: {verdict}\n{one.text}")
