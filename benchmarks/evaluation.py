"""How much faster than plain PyTorch are evaluations? The same model, items, initial embeddings and machine.

    python benchmarks/evaluation.py --learning_rate=0.5 --json=FILE
    python benchmarks/evaluation.py --limit=8 --max_steps=200        a small trial

The items are those of the bundled task cloze whose contexts have 8 to 16 tokens. The reference
(`common/torch_evaluation.py`) is what one writes with Hugging Face transformers: batches of 16 in lock-step,
hooks for knockout. Both run in this process. Two kinds of measurement, one JSON line each; `ratio` is always
seconds of PyTorch / seconds of jaxcram:

"evaluate"  one full cram of each context, and the eight scores of its four endings.
"knockout"  decisions and teacher-forced accuracies of all items under all conditions of the three protocols
            (single, forward, reverse) and without memory, from embeddings that exist.

jaxcram runs twice. The first run measures passes, plans and compiles, as a first start does:
`jaxcram_first_s` and `ratio_with_compile`; the second is `jaxcram_s`. `*_converged` is the share of contexts
that became exact. `decisions` counts the decisions that both sides make on jaxcram's embeddings,
`decisions_differ` those that are not the same (the program fails if there are any), and `largest_difference`
is of two log-probabilities, in nats. `others_share` is the share of the cores' time that other programs took:
measure on an idle machine.

PyTorch gets one thread or all cores, whichever runs its cramming passes faster.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two frameworks share the device

import jax
import numpy as np

from against_torch import reference_settings
from common import pairs, passes, program, torch_evaluation, torch_reference
from common.pairs import Pair
from common.program import Workload
from jaxcram.cli.flags import Doc
from jaxcram.cram.lanes import Bucket
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.cram.start import initial_embeddings, jobs_of
from jaxcram.errors import UserError
from jaxcram.evaluate.accuracy import chosen
from jaxcram.evaluate.choices import Choices, encode_items
from jaxcram.evaluate.knockout import sweep
from jaxcram.evaluate.knockout_effects import BASE, effects
from jaxcram.evaluate.multiple_choice import SCORES, Score, score
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.text.tokens import Sample, load_tokenizer

T = TypeVar("T")

GROUP = 64  # items of a sweep at a time, as in jaxcram knockout


@dataclasses.dataclass(frozen=True)
class Command:
    """The flags."""

    model: str | None = None
    dtype: str | None = None
    limit: int = 128
    min_tokens: int = 8
    max_tokens: int = 16
    max_steps: int = 1000
    learning_rate: float = 0.5
    batch: int = 16
    torch_threads: int = 0
    json: str | None = None

    def __post_init__(self) -> None:
        for name in ("limit", "max_steps", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: at least 1 is needed")


TOPICS = {
    "Model and items": {
        **{name: program.TOPICS["Model and texts"][name] for name in ("model", "dtype")},
        "limit": Doc("How many items", "items"),
        "min_tokens": Doc("Of a context, at least", "tokens"),
        "max_tokens": Doc("Of a context, at most", "tokens"),
    },
    "Procedure": {
        "max_steps": Doc("Cap of each cram, and length of the schedule", "steps"),
        "learning_rate": Doc("Peak of the schedule", "per step"),
        "batch": Doc("Texts of a batch in the reference", "texts"),
        "torch_threads": Doc("Of PyTorch on CPU; 0 takes one or all cores, whichever is faster", "threads"),
    },
    "Results": program.RESULTS,
}
COLUMNS = {
    "measurement": "",
    "items": "",
    "torch_threads": "",
    "jaxcram_s": ".1f",
    "jaxcram_first_s": ".1f",
    "torch_s": ".1f",
    "ratio": ".2f",
    "ratio_with_compile": ".2f",
    "jaxcram_converged": ".3f",
    "torch_converged": ".3f",
    "decisions": "",
    "decisions_differ": "",
    "largest_difference": ".1e",
    "others_share": ".2f",
}


def items_of(command: Command, pair: Pair, model_path: str) -> list[Choices]:
    """The first items with contexts of the wanted lengths."""
    encoded = encode_items(
        load_items(find_task("cloze")),
        load_tokenizer(model_path),
        max_positions=pair.model.config.max_positions,
    )
    wanted = [item for item in encoded if command.min_tokens <= len(item.context) <= command.max_tokens]
    if len(wanted) < command.limit:
        raise UserError(f"--limit={command.limit}: only {len(wanted)} items have contexts of these lengths")
    return wanted[: command.limit]


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """What an action returns, and the seconds that it takes."""
    start = time.perf_counter()
    found = action()
    return found, time.perf_counter() - start


def evaluate_record(
    pair: Pair, items: list[Choices], settings: CramSettings, batch: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Crams and the eight scores, and jaxcram's embeddings [I, K, D]."""
    samples = [Sample(item.id, "", item.context) for item in items]
    init_IxKxD = initial_embeddings(pair.model, jobs_of(samples, settings), settings)

    def ours(before: Any = None) -> tuple[passes.RunResult, np.ndarray, list[Score]]:
        run = passes.whole_run(pair.model, samples, settings, before)
        rows = [outcome.row for outcome in run.outcomes]
        mem_IxKxD = np.asarray([row["embedding"] for row in rows if row is not None], np.float32)
        return run, mem_IxKxD, score(pair.model, items, mem_IxKxD)

    def theirs() -> tuple[np.ndarray, dict[str, list[list[float]]]]:
        mem_IxKxD, exact_I = torch_evaluation.cram_full(
            pair.torch_model,
            [item.context for item in items],
            init_IxKxD,
            reference_settings(settings),
            batch_size=batch,
        )
        scores = torch_evaluation.eight_scores(pair.torch_model, items, mem_IxKxD, batch_size=batch)
        return exact_I, scores

    with program.Others() as others:
        (first, _, _), first_s = timed(ours)
        (exact_I, _), torch_s = timed(theirs)
        (run, mem_IxKxD, scores), warm_s = timed(lambda: ours(first.fit))
    again = torch_evaluation.eight_scores(pair.torch_model, items, mem_IxKxD, batch_size=batch)
    converged = np.mean([outcome.horizon == outcome.target_tokens for outcome in run.outcomes])
    return {
        "measurement": "evaluate",
        "items": len(items),
        **_times(warm_s, first_s, torch_s),
        "jaxcram_converged": float(converged),
        "torch_converged": float(exact_I.mean()),
        **_agreement(scores, [again[name][i] for i in range(len(items)) for name in SCORES]),
        "jaxcram_shapes": [f"{bucket.lanes}x{bucket.tokens}" for bucket in run.buckets],
        "others_share": others.share,
    }, mem_IxKxD


def knockout_record(pair: Pair, items: list[Choices], mem_IxKxD: np.ndarray, batch: int) -> dict[str, Any]:
    """The sweep of all protocols."""
    conditions = sweep(pair.model.config.num_layers)

    def ours() -> list[Any]:
        groups = range(0, len(items), GROUP)
        return [
            effect
            for i in groups
            for effect in effects(pair.model, items[i : i + GROUP], mem_IxKxD[i : i + GROUP], conditions)
            if effect.condition != BASE
        ]

    def theirs() -> tuple[np.ndarray, np.ndarray, list[list[list[float]]]]:
        texts = [text for item in items for text in item.texts]
        torch_evaluation.token_scores(
            pair.torch_model, texts, None, batch_size=batch
        )  # base, as in `effects`
        return torch_evaluation.knockout_sweep(
            pair.torch_model, items, mem_IxKxD, conditions.layers_CxL, batch_size=batch
        )

    with program.Others() as others:
        _, first_s = timed(ours)
        (right_CxI, tf_CxI, sums), torch_s = timed(theirs)
        found, warm_s = timed(ours)
    count = len(conditions.names)
    ours_right = np.array([one.right["token"] for one in found]).reshape(-1, count).T
    ours_tf = np.array([one.tf_accuracy for one in found]).reshape(-1, count).T
    log_probs = [one.log_probs for one in found]
    theirs_log_probs = [sums[c][i] for i in range(len(items)) for c in range(count)]
    return {
        "measurement": "knockout",
        "items": len(items),
        **_times(warm_s, first_s, torch_s),
        "jaxcram_converged": None,
        "torch_converged": None,
        "decisions": right_CxI.size,
        "decisions_differ": int((ours_right != right_CxI).sum()),
        "largest_difference": _largest(log_probs, theirs_log_probs),
        "conditions": count,
        "tf_accuracies_differ": int((np.abs(ours_tf - tf_CxI) > 1e-6).sum()),
        "others_share": others.share,
    }


def _times(warm_s: float, first_s: float, torch_s: float) -> dict[str, float]:
    return {
        "jaxcram_s": warm_s,
        "jaxcram_first_s": first_s,
        "torch_s": torch_s,
        "ratio": torch_s / warm_s,
        "ratio_with_compile": torch_s / first_s,
    }


def _agreement(scores: list[Score], log_probs: list[list[float]]) -> dict[str, Any]:
    """Whether sums of log-probabilities, and the decisions per token, are those of jaxcram's scores."""
    others = [
        dataclasses.replace(ours, log_probs=tuple(theirs))
        for ours, theirs in zip(scores, log_probs, strict=True)
    ]
    pairs_of = zip(scores, others, strict=True)
    differ = sum(chosen(ours, "token") != chosen(other, "token") for ours, other in pairs_of)
    return {
        "decisions": len(scores),
        "decisions_differ": differ,
        "largest_difference": _largest([one.log_probs for one in scores], log_probs),
    }


def _largest(log_probs: list[Any], others: list[Any]) -> float:
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(log_probs, others, strict=True))


def main(command: Command) -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are to be those of a first start
    machine = program.machine()
    work = Workload(model=command.model, dtype=command.dtype)
    pair = pairs.load_pair(work)
    items = items_of(command, pair, work.model_path)
    print(machine)
    settings = CramSettings(
        learning_rates=(command.learning_rate,),
        stages=StageSettings(mode="full", max_steps=command.max_steps),
        trajectory="horizon",
    )
    typical = [Bucket(tokens=command.max_tokens, lanes=command.batch)]
    threads = torch_reference.set_threads(pair.torch_model, typical, command.torch_threads)
    evaluation, mem_IxKxD = evaluate_record(pair, items, settings, command.batch)
    records = [evaluation, knockout_record(pair, items, mem_IxKxD, command.batch)]
    records = [one | {"torch_threads": threads} for one in records]
    print(program.table(records, COLUMNS))
    common = {"machine": machine, "settings": program.described(command)}
    program.write_records(command.json, records, benchmark="evaluation", **common)
    if any(one["decisions_differ"] for one in records):
        sys.exit("error: jaxcram and PyTorch decide differently")


if __name__ == "__main__":
    program.start(Command, TOPICS, main, __doc__)
