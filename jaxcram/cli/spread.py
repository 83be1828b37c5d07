"""Flags that say where a program runs: how models and lanes are spread over devices, and processes."""

import dataclasses
import re

from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError


@dataclasses.dataclass(frozen=True)
class Spread:
    """The flags; the three on processes go together.

    Raises:
        UserError: only some of the three, or numbers that do not fit.
    """

    mesh: str = "lanes:-1,model:1"
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def __post_init__(self) -> None:
        if self.process == (None, None, None):
            return
        if self.coordinator_address is None or self.num_processes is None or self.process_id is None:
            raise UserError(
                "coordinator_address, num_processes and process_id belong together: give all or none"
            )
        if not re.fullmatch(r"[^:\s]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}", self.coordinator_address):
            raise UserError(f"coordinator_address {self.coordinator_address!r}: write it as host:port")
        port = int(self.coordinator_address.rpartition(":")[2])
        if not 1 <= port <= 65535:
            raise UserError(f"coordinator_address {self.coordinator_address}: a port is from 1 to 65535")
        if not 0 <= self.process_id < self.num_processes:
            raise UserError(
                f"process_id {self.process_id} must be from 0 to below num_processes, {self.num_processes}"
            )

    @property
    def process(self) -> tuple[str | None, int | None, int | None]:
        """The three on processes."""
        return self.coordinator_address, self.num_processes, self.process_id


TOPIC = {
    "Devices and processes": {
        "mesh": Doc(
            "Devices along lanes, which share nothing, and along model, which share the weights and the work "
            "on each lane; or along fsdp, which share the weights alone (lanes:-1,fsdp:8). -1 takes all that "
            "are left"
        ),
        "coordinator_address": Doc(
            "host:port on the host of process 0, for several processes that do not find each other",
            unset="as Slurm, Open MPI or the TPU slice says, else one process",
        ),
        "num_processes": Doc(
            "How many processes there are, with --coordinator_address", "processes", "as above"
        ),
        "process_id": Doc("Which of them this is, with --coordinator_address", "from 0", "as above"),
    }
}
