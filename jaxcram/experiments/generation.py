"""`jaxcram evaluate --generative` on disk: solved questions crammed, and letters that the model writes.

The directory is that of an evaluation (`jaxcram.experiments.evaluation`), with `answers/` in place of
`scores/`, and without `crams/` in the modes that cram nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcram import report
from jaxcram.cram.settings import CramSettings
from jaxcram.cramming import prepare
from jaxcram.devices import processes
from jaxcram.evaluate import generative_summary
from jaxcram.evaluate.generative import Answer, Prompt, Prompts, encode_prompts, generate, random_memory
from jaxcram.evaluate.settings import BASE_MODE, TaskSettings, cram_settings
from jaxcram.evaluate.tasks.registry import find_task, load_items
from jaxcram.experiments.contexts import cost_of_crams, cram_below, embeddings, recorded_settings, source_of
from jaxcram.experiments.experiment import Grouping, Rows, by_group
from jaxcram.loading import Model, load_model
from jaxcram.results.answers import ANSWERS
from jaxcram.results.directory import RunDirectory
from jaxcram.results.shards import ShardFormat
from jaxcram.results.table import Job

_ANSWERED = Grouping((ANSWERS,), size=16, done="answered")


class Questions(NamedTuple):
    """Items that are answered in one mode and, to compare, from plain text.

    Attributes:
        model: that answers; task: the items' settings; settings: how texts are crammed.
        prompts: in the mode, with what is to be crammed; base: of plain text.
        recorded: what settings.json records.
    """

    model: Model
    task: TaskSettings
    settings: CramSettings
    prompts: Prompts
    base: list[Prompt]
    recorded: dict[str, Any]


def questions(
    model: Model | str | os.PathLike[str] | None,
    task: TaskSettings,
    settings: CramSettings | None,
    options: Mapping[str, Any],
) -> Questions:
    """The items of a task with their shots, in tokens.

    Raises:
        UserError: bad settings, or items that cannot be read or do not fit the model.
    """
    settings = cram_settings(settings, options)
    model = model if isinstance(model, Model) else load_model(model)
    with processes.together():
        items = load_items(
            find_task(task.task),
            data=task.data,
            limit=task.limit,
            samples=task.samples,
            shots_data=task.shots_data,
            num_shots=task.shots,
        )

        def encoded(mode: str) -> Prompts:
            return encode_prompts(
                items,
                mode,
                model.tokenizer,
                max_positions=model.decoder.config.max_positions,
                num_memory=settings.num_memory,
                bos=task.bos,
            )

        assert task.generative is not None
        prompts, base = encoded(task.generative), encoded(BASE_MODE).prompts
        for sample in prompts.crams:
            model.decoder.config.require_ids(sample.tokens, f"the shots of item {sample.sample_id}")
        for prompt in base:
            model.decoder.config.require_ids(prompt.tokens, f"item {prompt.item.id}")
    whole = {
        prompt.item.id: (prompt.item.prompt, [*prompt.item.endings, prompt.item.label], prompt.tokens)
        for prompt in base
    }
    recorded = recorded_settings(model, task, settings, whole)
    return Questions(model, task, settings, prompts, base, recorded)


def answer(directory: RunDirectory, asked: Questions, *, verbose: bool, checkpoint_minutes: float) -> None:
    """Crams what the mode crams, generates all answers that are not there yet, and writes the summary."""
    memory = _memory(directory, asked, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
    with report.Bar(verbose and processes.number() == 0) as bar:
        _answer(directory, asked, memory, bar.tell)


class _Memory(NamedTuple):
    """The embeddings of each prompt, if there are any, and what is known of them by id of the item."""

    mem_IxKxD: np.ndarray | None
    usable_I: np.ndarray
    converged: dict[int, bool] | None


def _memory(
    directory: RunDirectory, asked: Questions, *, verbose: bool, checkpoint_minutes: float
) -> _Memory:
    prompts, settings = asked.prompts.prompts, asked.settings
    every = np.ones(len(prompts), bool)
    if asked.task.generative == BASE_MODE:
        return _Memory(None, every, None)
    if not asked.prompts.crams:
        decoder, seed = asked.model.decoder, settings.seeds[0]
        return _Memory(random_memory(decoder, prompts, settings.num_memory, seed), every, None)
    prepared = prepare(asked.model, asked.prompts.crams, source_of(asked.task), settings)
    run = cram_below(directory, prepared, verbose=verbose, checkpoint_minutes=checkpoint_minutes)
    crammed = embeddings(run, asked.model, [prompt.cram for prompt in prompts if prompt.cram is not None])
    converged = {
        prompt.item.id: bool(exact) for prompt, exact in zip(prompts, crammed.converged_I, strict=True)
    }
    return _Memory(crammed.mem_IxKxD, crammed.usable_I, converged)


def _answer(directory: RunDirectory, asked: Questions, memory: _Memory, tell: Callable[[str], None]) -> None:
    ids = [prompt.item.id for prompt in asked.base]
    rate, seed = asked.settings.learning_rates[0], asked.settings.seeds[0]
    jobs = {i: Job(i, rate, seed) for i in ids}
    crams = {prompt.item.id: prompt.cram for prompt in asked.prompts.prompts}

    def rows(members: list[int]) -> dict[ShardFormat, Rows]:
        answers = _answers(asked, memory, members)
        return {ANSWERS: generative_summary.rows_of(answers, jobs, crams, memory.converged)}

    by_group(directory, ids, _ANSWERED, rows, tell)
    processes.from_first(lambda: directory.write_summary(_summary(directory, asked)))


def _answers(asked: Questions, memory: _Memory, members: Sequence[int]) -> list[Answer]:
    """The answers of some items from plain text and in the mode; wrong where no embedding is of use."""
    decoder, tokenizer = asked.model.decoder, asked.model.tokenizer
    found = generate(decoder, tokenizer, [asked.base[i] for i in members])
    if memory.mem_IxKxD is None:
        return found
    prompts = asked.prompts.prompts
    usable = [i for i in members if memory.usable_I[i]]
    if usable:
        found += generate(decoder, tokenizer, [prompts[i] for i in usable], memory.mem_IxKxD[usable])
    return found + [Answer.read(prompts[i], "") for i in members if not memory.usable_I[i]]


def _summary(directory: RunDirectory, asked: Questions) -> dict[str, Any]:
    rows = ANSWERS.read_shards(directory.path / ANSWERS.name, None).to_pylist()
    answers, converged = generative_summary.answers_of(rows)
    base = [answer for answer in answers if answer.mode == BASE_MODE]
    others = [answer for answer in answers if answer.mode != BASE_MODE]
    found = generative_summary.summarise(others or base, base, converged if others and converged else None)
    found["generative"] = found.pop("mode")
    scores = {answer.mode: found["accuracy"] for answer in answers} | {BASE_MODE: found["base_accuracy"]}
    # The names that evaluations of endings have; null where nothing was crammed.
    names = ("accuracy", "accuracy_interval", "accuracy_converged", "accuracy_converged_interval")
    crammed = {f"crammed_{name}": found.get(name) if others else None for name in names}
    found = {"converged": None} | found | crammed | {"scores": scores}
    return {
        "task": asked.task.task,
        "model": asked.model.name,
        **found,
        **(cost_of_crams(directory) if asked.prompts.crams else {}),
    }
