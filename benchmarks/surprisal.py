"""Surprisal and steps in the published trajectories: the correlation as `jaxcram analyse` counts it.

    python benchmarks/surprisal.py ../shared/reference

reads the stages of a few published texts (Tarasov et al. 2026), one file a model, and correlates the
surprisal of each token with the steps of its stage, over the stages that became exact and without the first
token. The published code always takes a step before it looks, so a stage that would be exact without one has
one there and none in jaxcram; `more_than_one_step` leaves those out, as `without free stages` does in a table
of `jaxcram analyse`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from common import program
from jaxcram.analysis.surprisal import StageCosts, correlation
from jaxcram.cli.flags import Doc, positional
from jaxcram.errors import UserError

# By file: the learning rate, and the correlation over all 50 texts with its interval, as published.
PUBLISHED = {
    "llama31_8b": (0.1, 0.59, [0.55, 0.63]),
    "pythia_1.4b": (0.5, 0.56, [0.54, 0.59]),
    "smollm2_1.7b": (0.1, 0.53, [0.51, 0.55]),
    "gemma3_4b": (0.1, 0.44, [0.38, 0.49]),
}
_COLUMNS = {
    **{"model": "", "texts": "d", "stages": "d", "spearman": ".3f", "interval": "", "given_position": ".3f"},
    **{"one_step_share": ".2f", "more_than_one_step": ".3f", "published": ".2f"},
}


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    reference: str = positional()
    json: str | None = None


TOPICS = {
    "Input": {"reference": Doc("Directory of llama31_8b.json and the like")},
    "Results": program.RESULTS,
}


def stages_of(path: Path) -> StageCosts:
    """The stages of the texts of a file.

    Raises:
        UserError: it cannot be read, or is not such a file.
    """
    try:
        samples = list(json.loads(path.read_text())["samples"].values())
        lanes = []
        for number, sample in enumerate(samples):
            base = sample["variants"]["base"]
            bits = np.asarray(sample["surprisal"][1 : base["horizon"]], float)
            steps = np.asarray(base["steps"][1 : base["horizon"]], float)
            same = np.full(len(bits), number)
            prefix = np.arange(2, len(bits) + 2)
            lanes.append(StageCosts(same, same, np.zeros(len(bits)), same * 0, prefix, bits, steps))
        return StageCosts(*(np.concatenate(values) for values in zip(*lanes, strict=True)))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the directory of the published stages") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not published stages ({error!r}); restore it") from error


def rows(reference: Path) -> list[dict[str, Any]]:
    """A row a model."""
    found = []
    for name, (rate, published, interval) in PUBLISHED.items():
        stages = stages_of(reference / f"{name}.json")
        whole, several = correlation(stages), correlation(stages.where(stages.cost > 1))
        one = stages.cost == 1
        found.append(
            {
                "model": name,
                "learning_rate": rate,
                "texts": whole.texts,
                "stages": whole.stages,
                "spearman": whole.spearman,
                "interval": whole.interval,
                "given_position": whole.partial,
                "one_step_share": float(one.mean()),
                "one_step_bits": float(stages.surprisal[one].mean()),
                "other_bits": float(stages.surprisal[~one].mean()),
                "more_than_one_step": several.spearman,
                "more_than_one_step_interval": several.interval,
                "published": published,
                "published_interval": interval,
            }
        )
    return found


def main(command: Command) -> None:
    table = rows(Path(command.reference).expanduser())
    shown = [row | {"interval": "[{:.2f}, {:.2f}]".format(*row["interval"])} for row in table]
    print(program.table(shown, _COLUMNS))
    print("published: of 50 texts; bits of stages of one step, and of the others:")
    for row in table:
        print(f"  {row['model']}: {row['one_step_bits']:.2f}, {row['other_bits']:.2f}")
    program.write_records(command.json, table, benchmark="surprisal", machine=program.machine())


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
