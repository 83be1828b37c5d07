"""Targets of a sweep: the command that starts a run on this machine, Slurm, a TPU slice or Kubernetes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
import string
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from jaxcram.cli import flags
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[1]
LAUNCH = CHECKOUT / "launch"
RESULTS = "/results"  # mount point of the volume in pods


@dataclasses.dataclass(frozen=True)
class Run:
    """One `jaxcram cram`.

    Attributes:
        name: last part of its directory.
        flagfile: the model's, as a path on this machine, or None.
        flags: the other flags, without --out.
        out: its directory.
    """

    name: str
    flagfile: Path | None
    flags: tuple[str, ...]
    out: str

    def arguments(self, checkout: PurePosixPath | None = None) -> tuple[str, ...]:
        """`cram` and its flags; with `checkout`, the flagfile's path is relative to the checkout there.

        Raises:
            UserError: the flagfile is outside the checkout, so it does not exist there.
        """
        first = []
        if self.flagfile is not None:
            path: PurePosixPath | Path = self.flagfile
            if checkout is not None:
                absolute = self.flagfile.resolve()
                if not absolute.is_relative_to(CHECKOUT):
                    raise UserError(
                        f"{self.flagfile} is not in the checkout, and nothing else is copied to the workers"
                    )
                path = checkout / absolute.relative_to(CHECKOUT).as_posix()
            first = [f"--flagfile={path}"]
        return ("cram", *first, *self.flags, f"--out={self.out}")


@dataclasses.dataclass(frozen=True)
class Start:
    """The flags of `sweep.py` on how runs are started, shared by all targets."""

    program: str = "jaxcram"
    restarts: int = 3
    target_flags: str = ""

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise UserError(f"--restarts={self.restarts} must be 0 or greater")

    def words(self) -> list[str]:
        """`target_flags`, split as by a shell."""
        try:
            return shlex.split(self.target_flags)
        except ValueError as error:
            raise UserError(f"--target_flags={self.target_flags}: {error}; close the quotation") from error


def local(run: Run, start: Start) -> tuple[str, ...]:
    """The program itself."""
    if start.target_flags:
        raise UserError("--target_flags does not apply to --target=local; write flags of cram after --")
    return (start.program, *run.arguments())


def slurm(run: Run, start: Start) -> tuple[str, ...]:
    """A Slurm batch job that runs the processes; its log is beside the run's directory."""
    return (
        *("sbatch", f"--job-name={run.name}", f"--output={run.out}.log", *start.words()),
        *(str(LAUNCH / "slurm.sbatch"), f"--restarts={start.restarts}", start.program, *run.arguments()),
    )


def tpu(run: Run, start: Start) -> tuple[str, ...]:
    """A TPU slice for this run, which `tpu_pod.sh` creates and deletes."""
    if PurePosixPath(run.out).parts[0] != "runs":
        raise UserError(f"{run.out}: on a TPU slice only runs/ is kept; choose a --root under it")
    return (
        *(str(LAUNCH / "tpu_pod.sh"), f"--name={dns_name(run.name)}", f"--restarts={start.restarts}"),
        *(*start.words(), "--", *run.arguments(PurePosixPath())[1:]),
    )


def kubernetes(run: Run, start: Start) -> tuple[str, ...]:
    """`kubectl` with the manifest from `jobset`."""
    return ("kubectl", "apply", f"--filename={run.out}.yaml")


@dataclasses.dataclass(frozen=True)
class Pods:
    """The pods of a JobSet, from --target_flags."""

    image: str
    claim: str
    accelerator: str
    devices: int
    hosts: int = 1
    topology: str | None = None
    spot: bool = False
    checkout: str = "/jaxcram"

    def __post_init__(self) -> None:
        if self.devices < 1 or self.hosts < 1:
            raise UserError(f"--devices={self.devices} --hosts={self.hosts} must be at least 1")
        if self.is_tpu != (self.topology is not None):
            needs = "needs a --topology such as 4x4" if self.is_tpu else "has no --topology"
            raise UserError(f"--accelerator={self.accelerator} {needs}")

    @property
    def is_tpu(self) -> bool:
        """Whether the accelerator is a TPU; the others are NVIDIA GPUs."""
        return self.accelerator.startswith("tpu")

    def node_selector(self) -> dict[str, str]:
        """The labels of the nodes, as GKE writes them."""
        label = "cloud.google.com/gke-"
        selector = {f"{label}{'tpu-' if self.is_tpu else ''}accelerator": self.accelerator}
        if self.topology is not None:
            selector[f"{label}tpu-topology"] = self.topology
        return selector | ({f"{label}spot": "true"} if self.spot else {})


PODS_TOPICS = {
    "Pods of a JobSet": {
        "image": Doc("Container image with a checkout and the program"),
        "claim": Doc("PersistentVolumeClaim for the results, to which all pods write"),
        "accelerator": Doc("Label of the nodes, such as tpu-v5-lite-podslice or nvidia-h200-141gb"),
        "devices": Doc("Accelerators of one pod", "devices"),
        "hosts": Doc("Pods of one run", "pods"),
        "topology": Doc("Label of a TPU slice, such as 4x4", unset="none, for GPUs"),
        "spot": Doc("Use spot nodes"),
        "checkout": Doc("Path of the checkout in the image"),
    }
}


def jobset(run: Run, start: Start) -> str:
    """The manifest of a run: `kubernetes/jobset.yaml` with every $name replaced by a JSON value.

    JSON is valid YAML, so values are quoted safely.
    """
    pods = flags.parse(Pods, PODS_TOPICS, start.words())
    if PurePosixPath(run.out).is_absolute():
        raise UserError(f"{run.out}: on Kubernetes --root is a path in the volume; make it relative")
    name = dns_name(run.name)
    # Kubernetes expands $(NAME) in a command; $$(NAME) is the escaped form.
    command = [
        word.replace("$(", "$$(") for word in (start.program, *run.arguments(PurePosixPath(pods.checkout)))
    ]
    if pods.hosts > 1 and not pods.is_tpu:  # on TPUs JAX finds the other processes by itself
        command += [
            f"--coordinator_address={name}-cram-0-0.{name}:8476",
            f"--num_processes={pods.hosts}",
            "--process_id=$(JOB_COMPLETION_INDEX)",
        ]
    values = {
        "name": name,
        "restarts": start.restarts,
        "hosts": pods.hosts,
        "node_selector": pods.node_selector(),
        "image": pods.image,
        "directory": RESULTS,
        "command": command,
        "limits": {"google.com/tpu" if pods.is_tpu else "nvidia.com/gpu": pods.devices},
        "claim": pods.claim,
    }
    template = string.Template((LAUNCH / "kubernetes" / "jobset.yaml").read_text())
    return template.substitute({key: json.dumps(value) for key, value in values.items()})


def dns_name(name: str) -> str:
    """`name` as a DNS label of at most 45 characters: lower-case letters, digits and hyphens.

    Longer names are truncated, with a digest of the whole name, so that they stay unique.
    """
    plain = "jaxcram-" + re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if len(plain) <= 45:
        return plain
    return f"{plain[:36].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_manifests(runs: Sequence[Run], start: Start) -> None:
    """Writes every run's manifest to OUT.yaml."""
    manifests = {f"{run.out}.yaml": jobset(run, start) for run in runs}
    for path, manifest in manifests.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(manifest)


COMMANDS = {"local": local, "slurm": slurm, "tpu": tpu, "kubernetes": kubernetes}
