"""Is base accuracy what lm-evaluation-harness computes? Item by item, with a model and items of your own.

    python benchmarks/against_harness.py --model=DIR --hellaswag=hellaswag.jsonl --arc_easy=arc_easy.jsonl \
        --mmlu=mmlu.jsonl --limit=100 --json=results.jsonl

Three sides score the same choices, without a memory, on the CPU:

  harness  lm-evaluation-harness with its own Hugging Face model, in PyTorch
  jaxcram  the scores of `jaxcram.evaluate`, which `acc` and `acc_norm` are computed from
  wrapped  lm-evaluation-harness with jaxcram's decoder (`jaxcram.evaluate.lm_eval`)

The harness reads the same files, in the Hub's columns, by task files that this program writes to a temporary
folder. Their templates make the strings that jaxcram's tasks have: the harness' own tasks of these names
rewrite HellaSwag's text, and put "Question:" and "Answer:" around those of ARC. MMLU is without solved
questions.

One JSON line a task: the largest difference of a choice's log-likelihood from the harness' (in nats), on how
many items the choice by sum (`acc`) and by characters (`acc_norm`) differs, the accuracies, and the
log-likelihoods themselves. --limit=4 tries it out.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common import program
from common.program import Workload
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError
from jaxcram.evaluate.accuracy import chosen
from jaxcram.evaluate.choices import encode_items
from jaxcram.evaluate.multiple_choice import Score, score
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.evaluate.tasks.task import Item
from jaxcram.models.decoder import Decoder
from jaxcram.text.tokenizer import Tokenizer, load_tokenizer

SIDES = ("harness", "jaxcram", "wrapped")
RULES = {"acc": "sum", "acc_norm": "character"}
# What makes our strings of the Hub's columns.
TEMPLATES: dict[str, dict[str, Any]] = {
    "hellaswag": {"doc_to_text": "{{ctx}}", "doc_to_choice": "{{endings}}", "doc_to_target": "{{label}}"},
    "arc_easy": {
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices.text}}",
        "doc_to_target": "{{choices.label.index(answerKey)}}",
    },
    "mmlu": {
        "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "{{answer}}",
    },
}


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    model: str | None = None
    dtype: str = "float32"
    hellaswag: str | None = None
    arc_easy: str | None = None
    mmlu: str | None = None
    limit: int = 100
    batch: int = 8
    json: str | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("no items: give --hellaswag, --arc_easy or --mmlu, the path of a .jsonl file")
        for name in ("limit", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: at least 1 is needed")

    @property
    def data(self) -> dict[str, str]:
        """The files by task."""
        given = {"hellaswag": self.hellaswag, "arc_easy": self.arc_easy, "mmlu": self.mmlu}
        return {name: path for name, path in given.items() if path}


TOPICS = {
    "Model": {
        "model": Doc("Directory of a model in Hugging Face layout", unset="the bundled mini-llama"),
        "dtype": Doc("Of the weights on all sides, float32 or bfloat16"),
    },
    "Items": {
        "hellaswag": Doc("JSON lines with ctx, endings, label", unset="the task is left out"),
        "arc_easy": Doc("JSON lines with question, choices, answerKey", unset="the task is left out"),
        "mmlu": Doc("JSON lines with question, choices, answer, subject", unset="the task is left out"),
        "limit": Doc("The first so many of each file", "items"),
        "batch": Doc("Of the harness' own model", "texts"),
    },
    "Results": program.RESULTS,
}
COLUMNS = {
    **{"task": "", "items": "", "choices": ""},
    **{f"{side}_difference": ".1e" for side in SIDES[1:]},
    **{f"{side}_{name}_differs": "" for side in SIDES[1:] for name in RULES},
    **{f"{side}_{name}": ".2f" for name in RULES for side in SIDES[:2]},
}


class Answers(NamedTuple):
    """What one side says of the items of a task.

    Attributes:
        log_likelihoods: [E] of each item, nats.
        decisions: index of the ending that each item gets, under "acc" and under "acc_norm".
        accuracies: shares of right decisions.
        wall_s: seconds for all tasks.
    """

    log_likelihoods: list[list[float]]
    decisions: dict[str, list[int]]
    accuracies: dict[str, float]
    wall_s: float


def write_tasks(data: dict[str, str], folder: Path) -> None:
    """A task file for each task; JSON is YAML too."""
    for name, path in data.items():
        files = {"test": str(Path(path).resolve())}
        task = {
            "task": f"own_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
            "output_type": "multiple_choice",
            "test_split": "test",
            "target_delimiter": " ",
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in RULES
            ],
            **TEMPLATES[name],
        }
        (folder / f"own_{name}.yaml").write_text(json.dumps(task))


def by_harness(model: Any, names: Sequence[str], folder: Path, limit: int) -> dict[str, Answers]:
    """Answers of lm-evaluation-harness to the tasks in a folder, with any of its models."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    start = time.perf_counter()
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[f"own_{name}" for name in names],
        limit=limit,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    wall_s = time.perf_counter() - start
    answers = {}
    for name in names:
        rows = sorted(found["samples"][f"own_{name}"], key=lambda row: row["doc_id"])
        values = [[float(each[0][0]) for each in row["resps"]] for row in rows]
        endings = [[arguments[1][1:] for arguments in row["arguments"]] for row in rows]
        decisions = {
            "acc": [int(np.argmax(each)) for each in values],
            "acc_norm": [
                int(np.argmax(np.asarray(each) / [len(ending) for ending in texts]))
                for each, texts in zip(values, endings, strict=True)
            ],
        }
        accuracies = {rule: float(np.mean([row[rule] for row in rows])) for rule in RULES}
        answers[name] = Answers(values, decisions, accuracies, wall_s)
    return answers


def by_jaxcram(decoder: Decoder, tokenizer: Tokenizer, items: dict[str, list[Item]]) -> dict[str, Answers]:
    """Answers of the scores of `jaxcram.evaluate`."""
    answers = {}
    start = time.perf_counter()
    for name, of_task in items.items():
        choices = encode_items(of_task, tokenizer, max_positions=decoder.config.max_positions)
        scores = score(decoder, choices, names=["base_ending"])
        decisions = {rule: [_chosen(each, by) for each in scores] for rule, by in RULES.items()}
        accuracies = {
            rule: float(np.mean([made == each.label for made, each in zip(of_rule, scores, strict=True)]))
            for rule, of_rule in decisions.items()
        }
        answers[name] = Answers([list(each.log_probs) for each in scores], decisions, accuracies, 0.0)
    wall_s = time.perf_counter() - start
    return {name: each._replace(wall_s=wall_s) for name, each in answers.items()}


def _chosen(one: Score, by: str) -> int:
    made = chosen(one, by)
    assert made is not None, "every ending has a token"
    return made


def compared(name: str, answers: dict[str, Answers]) -> dict[str, Any]:
    """The record of one task: every side against the harness with its own model."""
    theirs = answers["harness"]
    record: dict[str, Any] = {
        "task": name,
        "items": len(theirs.log_likelihoods),
        "choices": sum(map(len, theirs.log_likelihoods)),
    }
    for side in SIDES[1:]:
        ours = answers[side]
        pairs = zip(ours.log_likelihoods, theirs.log_likelihoods, strict=True)
        record[f"{side}_difference"] = max(
            abs(one - other)
            for mine, other_side in pairs
            for one, other in zip(mine, other_side, strict=True)
        )
        for rule in RULES:
            both = zip(ours.decisions[rule], theirs.decisions[rule], strict=True)
            record[f"{side}_{rule}_differs"] = sum(one != other for one, other in both)
    for side in SIDES:
        record |= {f"{side}_{rule}": value for rule, value in answers[side].accuracies.items()}
        record[f"{side}_all_tasks_s"] = round(answers[side].wall_s, 1)
    for side in SIDES:
        values = answers[side].log_likelihoods
        record[f"{side}_log_likelihoods"] = [[round(value, 5) for value in each] for each in values]
    return record


def measured(command: Command) -> list[dict[str, Any]]:
    """One record a task."""
    from lm_eval.models.huggingface import HFLM

    from jaxcram.evaluate.lm_eval import CrammedLM  # here, so that a missing harness is one line

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    work = Workload(model=command.model, dtype=command.dtype)
    items = {
        name: load_items(find_task(name), data=path, limit=command.limit, num_shots=0)
        for name, path in command.data.items()
    }
    decoder, tokenizer = work.decoder(), load_tokenizer(work.model_path)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tasks(command.data, folder)
        answers = {"jaxcram": by_jaxcram(decoder, tokenizer, items)}
        wrapped = CrammedLM(decoder, tokenizer)
        answers["wrapped"] = by_harness(wrapped, list(items), folder, command.limit)
        own = HFLM(pretrained=work.model_path, dtype=command.dtype, device="cpu", batch_size=command.batch)
        answers["harness"] = by_harness(own, list(items), folder, command.limit)
    return [compared(name, {side: answers[side][name] for side in SIDES}) for name in items]


def main(command: Command) -> None:
    records = measured(command)
    machine = program.machine() | {
        package: importlib.metadata.version(package) for package in ("lm_eval", "transformers")
    }
    print(machine)
    print(program.table(records, COLUMNS))
    settings = program.described(command)
    program.write_records(
        command.json, records, benchmark="against_harness", machine=machine, settings=settings
    )


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
