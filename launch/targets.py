"""Where runs go: the command that starts one run on this machine, Slurm, a TPU slice or Kubernetes."""

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
RESULTS = "/results"  # where pods find the volume


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
        """`cram` and its flags; with `checkout`, the flagfile's path is that of a checkout there.

        Raises:
            UserError: the flagfile is outside the checkout, and so not there.
        """
        first = []
        if self.flagfile is not None:
            place: PurePosixPath | Path = self.flagfile
            if checkout is not None:
                absolute = self.flagfile.resolve()
                if not absolute.is_relative_to(CHECKOUT):
                    raise UserError(
                        f"{self.flagfile} is not in the checkout, which is all that travels there"
                    )
                place = checkout / absolute.relative_to(CHECKOUT).as_posix()
            first = [f"--flagfile={place}"]
        return ("cram", *first, *self.flags, f"--out={self.out}")


@dataclasses.dataclass(frozen=True)
class Start:
    """How the runs of a sweep are started: the flags of `sweep.py` that the targets share."""

    program: str = "jaxcram"
    restarts: int = 3
    target_flags: str = ""

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise UserError(f"--restarts={self.restarts}: 0 or more are possible")

    def words(self) -> list[str]:
        """`target_flags`, split as a shell does."""
        try:
            return shlex.split(self.target_flags)
        except ValueError as error:
            raise UserError(f"--target_flags={self.target_flags}: {error}; close the quotation") from error


def local(run: Run, start: Start) -> tuple[str, ...]:
    """The program itself."""
    if start.target_flags:
        raise UserError("--target_flags has no meaning for --target=local; cram's own flags go after --")
    return (start.program, *run.arguments())


def slurm(run: Run, start: Start) -> tuple[str, ...]:
    """A batch job whose steps are the run's processes; its log is beside the run's directory."""
    return (
        *("sbatch", f"--job-name={run.name}", f"--output={run.out}.log", *start.words()),
        *(str(LAUNCH / "slurm.sbatch"), f"--restarts={start.restarts}", start.program, *run.arguments()),
    )


def tpu(run: Run, start: Start) -> tuple[str, ...]:
    """A TPU slice of the run's own, made, used, collected from and given back by `tpu_pod.sh`."""
    if PurePosixPath(run.out).parts[0] != "runs":
        raise UserError(f"{run.out}: on a TPU slice only runs/ is kept; give a --root under it")
    return (
        *(str(LAUNCH / "tpu_pod.sh"), f"--name={dns_name(run.name)}", f"--restarts={start.restarts}"),
        *(*start.words(), "--", *run.arguments(PurePosixPath())[1:]),
    )


def kubernetes(run: Run, start: Start) -> tuple[str, ...]:
    """`kubectl` with the manifest that `jobset` renders."""
    return ("kubectl", "apply", f"--filename={run.out}.yaml")


@dataclasses.dataclass(frozen=True)
class Pods:
    """The pods of a JobSet: what --target_flags says for Kubernetes."""

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
            raise UserError(f"--devices={self.devices} --hosts={self.hosts}: at least 1 of each is needed")
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
        "claim": Doc("PersistentVolumeClaim for the results; many pods write to it"),
        "accelerator": Doc("Label of the nodes, such as tpu-v5-lite-podslice or nvidia-h200-141gb"),
        "devices": Doc("Accelerators of one pod", "devices"),
        "hosts": Doc("Pods of one run", "pods"),
        "topology": Doc("Label of a TPU slice, such as 4x4", unset="none, for GPUs"),
        "spot": Doc("Take spot nodes"),
        "checkout": Doc("Path of the checkout in the image"),
    }
}


def jobset(run: Run, start: Start) -> str:
    """The manifest of a run: `kubernetes/jobset.yaml` with every $name replaced by a JSON value.

    JSON is YAML, so no value can break out of its place.
    """
    pods = flags.parse(Pods, PODS_TOPICS, start.words())
    if PurePosixPath(run.out).is_absolute():
        raise UserError(f"{run.out}: on Kubernetes --root is a path in the volume; make it relative")
    name = dns_name(run.name)
    # Kubernetes replaces $(NAME) in a command, and $$(NAME) stands for the text $(NAME).
    command = [
        word.replace("$(", "$$(") for word in (start.program, *run.arguments(PurePosixPath(pods.checkout)))
    ]
    if pods.hosts > 1 and not pods.is_tpu:  # JAX finds the peers of a TPU by itself
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
    """`name` in small letters, digits and hyphens, at most 45 of them, as clouds want names.

    What is longer is cut and gets a digest of the whole, so that it stays its own.
    """
    plain = "jaxcram-" + re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if len(plain) <= 45:
        return plain
    return f"{plain[:36].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_manifests(runs: Sequence[Run], start: Start) -> None:
    """Every run's manifest, beside where its directory would be."""
    manifests = {f"{run.out}.yaml": jobset(run, start) for run in runs}
    for path, manifest in manifests.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(manifest)


COMMANDS = {"local": local, "slurm": slurm, "tpu": tpu, "kubernetes": kubernetes}
