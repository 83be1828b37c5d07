"""What every benchmark program needs: flags, model and texts, the machine, records, tables."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import numpy as np

from jaxcram.cli import flags
from jaxcram.cli.flags import Doc
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.devices import mesh
from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import Sample, load_texts, load_tokenizer, tokenize

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
_MAIN = "import sys; from jaxcram.cli.main import main; sys.exit(main(sys.argv[1:]))"
JAXCRAM = (sys.executable, "-P", "-c", _MAIN)  # jaxcram as this process has it, wherever that is run
LOAD_BEFORE = round(os.getloadavg()[0], 2)  # before this program has computed anything


@dataclasses.dataclass(frozen=True)
class Workload:
    """Model, texts, and the caps of the published procedure."""

    model: str | None = None
    dtype: str | None = None
    mesh: str = "lanes:-1,model:1"
    texts: str = "stories"
    num_samples: int = 25
    max_tokens: int = 64
    max_steps: int = 10_000
    max_steps_per_token: int = 1_000
    token_budget: int = 0
    json: str | None = None

    @property
    def model_path(self) -> str:
        """The model's directory or Hub name."""
        return self.model or str(port.bundled_model())

    def decoder(self) -> Decoder:
        """The frozen decoder on the devices of `mesh`; on CPU every core is one."""
        mesh.use_cores()
        devices = mesh.MeshShape.parse(self.mesh).make()
        return port.load(self.model_path, dtype=self.dtype, mesh=devices).for_backend()

    def samples(self, decoder: Decoder) -> list[Sample]:
        """The texts in tokens, at most `max_tokens` of each."""
        return tokenize(
            load_texts(self.texts, num_samples=self.num_samples),
            load_tokenizer(self.model_path),
            max_tokens=self.max_tokens,
            bos=None,
            max_positions=decoder.config.max_positions,
        )

    def settings(self, *learning_rates: float) -> CramSettings:
        """The published procedure under the caps; no embeddings are kept."""
        caps = StageSettings(max_steps=self.max_steps, max_steps_per_token=self.max_steps_per_token)
        return CramSettings(
            learning_rates=learning_rates, stages=caps, trajectory="none", token_budget=self.token_budget
        )


RESULTS = {"json": Doc("Append one JSON line a measurement to this file", unset="none is written")}
TOPICS = {
    "Model and texts": {
        "model": Doc(
            "Directory or Hub name of a model: Llama, GPT-NeoX, Gemma 3, Qwen, SmolLM3",
            unset="the bundled mini-llama",
        ),
        "dtype": Doc("Of the weights, float32 or bfloat16", unset="float32 on CPU, bfloat16 elsewhere"),
        "mesh": Doc("As for jaxcram cram: lanes:1,model:1 runs one pass at a time, on all cores of a CPU"),
        "texts": Doc("As for jaxcram cram: stories, passages, a file, a directory or a Hub name"),
        "num_samples": Doc("How many texts", "texts"),
        "max_tokens": Doc("Cut the targets to this length", "tokens"),
    },
    "Procedure": {
        "max_steps": Doc("Cap per sample, and length of the schedule", "steps"),
        "max_steps_per_token": Doc("Cap per stage", "steps"),
        "token_budget": Doc("Most padded tokens of a pass of jaxcram; 0 measures what is fastest", "tokens"),
    },
    "Results": RESULTS,
}


def start(command: type[T], topics: flags.Topics, main: Callable[[T], None], about: str) -> None:
    """Read the flags and call `main` with them; a mistake of the user is one line and exit code 2."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(f"{about}\n{flags.explain(command, topics)}")
        return
    try:
        main(flags.parse(command, topics, sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def described(command: Any) -> dict[str, Any]:
    """A program's flags by name, as its records keep them."""
    fields = dataclasses.asdict(command)
    fields = fields.pop("workload", {}) | fields
    del fields["json"]  # the name of the record's own file
    return fields


def machine() -> dict[str, Any]:
    """What a measurement was made on; `load` is the load average before it, from other programs.

    It starts JAX, which takes most of a GPU's memory: call it after timing other processes.
    """
    mesh.use_cores()  # asking JAX for its devices starts it, and fixes how many there are
    return {
        "cpu": mesh.cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": LOAD_BEFORE,
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "jax": _version("jax"),
        "torch": _version("torch"),
        "commit": _commit(),
    }


class Others:
    """How busy other programs kept the cores while the context was open.

    Attributes:
        share: of the cores' time; None where there is no /proc/stat. Time stolen by a virtual machine's host
            counts too.
    """

    def __enter__(self) -> Self:
        self.share: float | None = None
        self._before = self._now()
        return self

    def __exit__(self, *error: object) -> None:
        if self._before and (now := self._now()):
            idle, own, total = (after - before for after, before in zip(now, self._before, strict=True))
            self.share = max(0.0, 1 - (idle + own) / total) if total else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds so far, over all cores: idle, spent by this process, and all."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        seconds = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
        return seconds[3] + seconds[4], time.process_time(), sum(seconds)  # idle and waiting for a disk


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, marked where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_records(path: str | None, records: Sequence[Mapping[str, Any]], **common: Any) -> None:
    """Append one JSON line a record to `path`, the `common` fields first; nothing where `path` is unset.

    Raises:
        UserError: the file cannot be written.
    """
    if path:
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(common | dict(one), default=_plain) + "\n" for one in records)
        except OSError as error:
            raise UserError(f"--json={path}: {error.strerror or error}; name another file") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def table(records: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Records as aligned text; `columns`: field to format, as in {"wall_s": ".1f"}; None shows as a dash."""
    rows = [list(columns)]
    for record in records:
        values = [(record[name], spec) for name, spec in columns.items()]
        rows.append(["-" if value is None else format(value, spec) for value, spec in values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


def time_command(arguments: Sequence[str], directory: Path, cache: Path) -> float:
    """Seconds that the command `jaxcram ARGUMENTS` takes in a process of its own.

    Args:
        arguments: of the command.
        directory: the working directory.
        cache: of compiled programs, instead of the user's own.

    Raises:
        UserError: the command says that its arguments are wrong.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [*JAXCRAM, *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode == UserError.exit_code:
        raise UserError(done.stderr.decode().strip().splitlines()[-1].partition("error: ")[2])
    done.check_returncode()
    return seconds
