"""What would the published main table of progressive cramming cost on accelerators? Arithmetic alone.

    python benchmarks/cost.py --peak_share=0.5 --useful_share=0.7

A step of a lane whose prefix has n tokens is one forward-and-backward pass over n positions, F(n) FLOPs as
`common.passes.pass_flops` counts them. With s(n) steps at stage n of a text, N texts, and D devices:

    hours = N * sum over n of s(n) F(n) / (useful share * balance * peak share * D * peak * 3600)

  s(n)          published, including the last stage, which failed after 1,000 steps; mean of three texts
  useful share  useful tokens / computed tokens; the default was measured on 50 stories at one learning rate
                with the bundled model on a CPU. A padded token costs as much as a useful one
  balance       N / (D * ceil(N / D)): every device works as long as the one with most lanes
  peak share    FLOP/s of passes / the vendor's peak; passes of full buckets reached 0.57 of it with
                Llama-3.1-8B's shape on an H200, 0.50 with SmolLM2-1.7B's, 0.45 with Pythia-1.4B's and 0.25
                with SmolLM2-135M's (results/gpu.jsonl). On TPUs it is ASSUMED
  peak          the vendor's figure for one device in dense bfloat16

F(n) = a n + b n^2 with one memory embedding, so of the published steps only the sums of s(n) n and s(n) n^2
matter. Not included: decoding at the end, compilation, downloads, and communication over a model axis.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from flax import nnx
from jax import numpy as jnp

from common import passes, program, shapes
from jaxcram.cli.flags import Doc
from jaxcram.cram.lanes import Bucket
from jaxcram.errors import UserError
from jaxcram.models.config import DecoderConfig
from jaxcram.models.decoder import Decoder

COLUMNS = {
    **{"model": "", "variant": "", "steps": ",.0f", "tokens": ".0f", "exaflop": ".1f"},
    **{"machine": "", "balance": ".2f", "hours": ".1f", "device_hours": ".1f"},
}


class Machine(NamedTuple):
    """Devices, and the vendor's peak of one in dense bfloat16 FLOP/s."""

    devices: int
    peak: float


# Vendors' figures, not measured. A v5e-16 has 16 chips; a v5p-8 has 4, because its name counts cores.
MACHINES = {
    "H200": Machine(1, 989e12),
    "v5e-16": Machine(16, 197e12),
    "v5p-8": Machine(4, 459e12),
}


class Steps(NamedTuple):
    """Sums of s(n), s(n) n and s(n) n^2 over the stages n of `TEXTS` texts; s(n) are a stage's steps."""

    steps: int
    tokens: int
    squares: int


TEXTS = 3
# Of each model the three PG19 texts whose steps at each token are published with Tarasov et al. 2026. Low-dim
# is the variant e = W z + b, which jaxcram does not have: its published steps at the cost of a plain step.
PUBLISHED = {
    ("Llama-3.1-8B", "plain"): Steps(44_420, 43_026_640, 52_288_117_320),
    ("Llama-3.1-8B", "low-dim"): Steps(41_759, 46_052_505, 62_847_213_781),
    ("Pythia-1.4B", "plain"): Steps(21_274, 7_566_791, 3_001_996_227),
    ("Pythia-1.4B", "low-dim"): Steps(32_425, 13_561_548, 6_431_387_968),
    ("SmolLM2-1.7B", "plain"): Steps(26_256, 7_558_095, 2_400_196_889),
    ("SmolLM2-1.7B", "low-dim"): Steps(28_245, 19_189_030, 15_717_020_978),
    ("Gemma-3-4B", "plain"): Steps(30_359, 5_133_547, 1_278_931_247),
    ("Gemma-3-4B", "low-dim"): Steps(35_474, 13_757_279, 7_213_325_139),
}

MODELS: dict[str, DecoderConfig] = {
    "Llama-3.1-8B": shapes.config("llama3.1-8b"),
    "Pythia-1.4B": shapes.config("pythia-1.4b"),
    "SmolLM2-1.7B": shapes.config("smollm2-1.7b"),
    "Gemma-3-4B": shapes.config("gemma3-4b"),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    peak_share: float = 0.5
    useful_share: float = 0.7
    num_samples: int = 50
    json: str | None = None

    def __post_init__(self) -> None:
        for name in ("peak_share", "useful_share"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"--{name}={getattr(self, name)} is no share: above 0, and at most 1")
        if self.num_samples < 1:
            raise UserError(f"--num_samples={self.num_samples}: at least 1 is needed")


TOPICS = {
    "Assumptions": {
        "peak_share": Doc(
            "FLOPs of passes a second / the vendor's peak; on TPUs assumed, not measured", "share"
        ),
        "useful_share": Doc("Tokens of unfinished prefixes / tokens computed", "share"),
        "num_samples": Doc("Texts, each a lane", "texts"),
    },
    "Results": program.RESULTS,
}


def text_flops(config: DecoderConfig, steps: Steps) -> float:
    """FLOPs of the passes that one text needs, without padding."""
    model = nnx.eval_shape(lambda: Decoder(config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    one, two = (passes.pass_flops(model, Bucket(tokens=n, lanes=1)) for n in (1, 2))
    quadratic = (two - 2 * one) / 2  # of a n + b n^2
    linear = one - quadratic
    return (linear * steps.tokens + quadratic * steps.squares) / TEXTS


def rows(command: Command) -> list[dict[str, Any]]:
    """The table: every published run on every machine."""
    return [
        {
            **{"model": model, "variant": variant, "steps": steps.steps / TEXTS},
            **{"tokens": steps.tokens / steps.steps, "exaflop": flops / 1e18, "machine": name},
            **_time(flops, machine, command),
        }
        for (model, variant), steps in PUBLISHED.items()
        for flops in [command.num_samples * text_flops(MODELS[model], steps)]
        for name, machine in MACHINES.items()
    ]


def _time(flops: float, machine: Machine, command: Command) -> dict[str, float]:
    count = command.num_samples
    balance = count / (machine.devices * math.ceil(count / machine.devices))
    rate = command.useful_share * balance * command.peak_share * machine.devices * machine.peak
    hours = flops / rate / 3600
    return {"balance": balance, "hours": hours, "device_hours": hours * machine.devices}


def main(command: Command) -> None:
    table = rows(command)
    print(
        f"peak share {command.peak_share:g}, on TPUs assumed; useful share {command.useful_share:g}; "
        f"{command.num_samples} texts"
    )
    print("steps and tokens (mean prefix of a step): published, a text; exaflop: of all texts, useful only")
    print(program.table(table, COLUMNS))
    for name, machine in MACHINES.items():
        hours = sum(row["hours"] for row in table if row["machine"] == name)
        print(f"all on {name}: {hours:.1f} hours, {hours * machine.devices:.1f} device hours")
    program.write_records(command.json, table, benchmark="cost", settings=program.described(command))


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
