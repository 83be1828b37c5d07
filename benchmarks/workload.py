"""What the benchmarks run on: their common flags, and the model, samples and settings these select."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from jaxcram.cli import flags
from jaxcram.cli.flags import Doc
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.devices import mesh
from jaxcram.errors import UserError
from jaxcram.models import port
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokens import Sample, load_texts, load_tokenizer, tokenize

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Workload:
    """Model, texts, and the caps of the published procedure."""

    model: str | None = None
    dtype: str | None = None
    texts: str = "stories"
    num_samples: int = 25
    max_tokens: int = 64
    max_steps: int = 10_000
    max_steps_per_token: int = 1_000
    token_budget: int = 0
    json: str | None = None

    @property
    def place(self) -> str:
        """The model's directory or Hub name."""
        return self.model or str(port.bundled_model())

    def decoder(self) -> Decoder:
        """The frozen decoder, on all devices; on CPU every core is one."""
        mesh.use_cores()
        return port.load(self.place, dtype=self.dtype, mesh=mesh.MeshShape().make()).for_backend()

    def samples(self, decoder: Decoder) -> list[Sample]:
        """The texts in tokens, at most `max_tokens` of each."""
        return tokenize(
            load_texts(self.texts, num_samples=self.num_samples),
            load_tokenizer(self.place),
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


TOPICS = {
    "Model and texts": {
        "model": Doc("Directory or Hub name of a Llama or GPT-NeoX model", unset="the bundled mini-llama"),
        "dtype": Doc("Of the weights, float32 or bfloat16", unset="float32 on CPU, bfloat16 elsewhere"),
        "texts": Doc("As for jaxcram cram: stories, passages, a file, a directory or a Hub name"),
        "num_samples": Doc("How many texts", "texts"),
        "max_tokens": Doc("Cut the targets to this length", "tokens"),
    },
    "Procedure": {
        "max_steps": Doc("Cap per sample, and length of the schedule", "steps"),
        "max_steps_per_token": Doc("Cap per stage", "steps"),
        "token_budget": Doc("Padded tokens of one pass of jaxcram; 0 leaves it to the engine", "tokens"),
    },
    "Results": {"json": Doc("Append one JSON line a measurement to this file", unset="none is written")},
}


def described(command: Any) -> dict[str, Any]:
    """A program's flags by name, as its records keep them."""
    fields = dataclasses.asdict(command)
    fields = fields.pop("workload", {}) | fields
    del fields["json"]  # where they are written says nothing about them
    return fields


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
