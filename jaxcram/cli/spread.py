"""Flags for devices and processes: the mesh over which weights and lanes are sharded, and the coordinator."""

import dataclasses
import re

from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError


@dataclasses.dataclass(frozen=True)
class Spread:
    """The flags; the three for processes must be given together.

    Raises:
        UserError: only some of the three are given, or a value is out of range.
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
        """coordinator_address, num_processes and process_id."""
        return self.coordinator_address, self.num_processes, self.process_id


TOPIC = {
    "Devices and processes": {
        "mesh": Doc(
            "Devices along each axis: lanes replicates the weights; model shards the weights and the work on "
            "each lane; fsdp shards only the storage of the weights (lanes:-1,fsdp:8). -1 means all "
            "remaining devices"
        ),
        "coordinator_address": Doc(
            "host:port on the host of process 0, for several processes",
            unset="from Slurm, Open MPI or the TPU slice, else one process",
        ),
        "num_processes": Doc("Number of processes, with --coordinator_address", "processes", "as above"),
        "process_id": Doc("Rank of this process, with --coordinator_address", "from 0", "as above"),
    }
}
