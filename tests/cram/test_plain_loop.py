"""The engine against the plain loop: same stages, same steps, same horizon, same embedding to the bit."""

import numpy as np
import pytest

from jaxcram import api
from jaxcram.cram import lanes
from jaxcram.cram.settings import CramSettings, StageSettings
from jaxcram.cram.start import initial_embeddings, jobs_of
from jaxcram.models import port
from jaxcram.models.gemma import GemmaConfig
from jaxcram.text.tokens import Sample
from tests.cram import plain
from tests.cram.engines import engine
from tests.lively import TINY, lively

pytestmark = pytest.mark.optimised


def assert_same_as_plain(decoder, samples, settings):
    jobs = jobs_of(samples, settings)
    run = engine(decoder, samples, settings, jobs)
    outcomes = {ended.outcome.job: (ended.outcome, ended.rows) for ended in run.lanes(lambda progress: None)}
    tokens = {sample.sample_id: sample.tokens for sample in samples}
    steps = 0
    for job in jobs:
        outcome, rows = outcomes[job]
        (start,) = initial_embeddings(decoder, [job], settings)
        procedure = lanes.PassSettings(settings.objective, settings.optimizer, settings.stages)
        stages, horizon, embedding = plain.cram(
            decoder,
            tokens[job.sample_id],
            start,
            job.learning_rate,
            procedure,
            run.fit.plan,
        )
        assert [(row["stage_seq_len"], row["steps"]) for row in rows if row["exact"]] == stages, job
        assert outcome.horizon == horizon, job
        if horizon:
            np.testing.assert_array_equal(outcome.row["embedding"], embedding)
        steps += sum(taken for _, taken in stages)
    assert steps > 0
    # The plain loop measures every stage by itself; the lanes do not.
    assert run.progress.passes < sum(outcome.horizon + outcome.steps + 1 for outcome, _ in outcomes.values())


def settings_for(rates, cap):
    # A budget of less than two of the shortest lanes pins every pass to one lane, the plain loop's shape.
    return CramSettings(learning_rates=rates, token_budget=4, stages=StageSettings(max_steps_per_token=cap))


@pytest.mark.slow
def test_on_a_random_model(tiny, samples):
    assert_same_as_plain(tiny, samples, settings_for((0.1, 1.0), 150))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threshold", "reasons"), [(0.6, ["converged"] * 3), (1.0, ["sample_cap", "complete", "complete"])]
)
def test_full_cramming_ends_at_its_threshold(tiny, samples, threshold, reasons):
    """Every lane has the very steps, right tokens and embedding of a loop of its own."""
    samples = [Sample(i, "", sample.tokens[:4]) for i, sample in enumerate(samples)]
    stages = StageSettings(mode="full", full_threshold=threshold, max_steps=120)
    settings = CramSettings(learning_rates=(0.5,), num_memory=4, token_budget=4, stages=stages)
    jobs = jobs_of(samples, settings)
    run = engine(tiny, samples, settings, jobs)
    ended = {one.outcome.job: one for one in run.lanes(lambda progress: None)}
    assert [ended[job].outcome.stop_reason for job in jobs] == reasons
    for job, sample in zip(jobs, samples, strict=True):
        (start,) = initial_embeddings(tiny, [job], settings)
        procedure = lanes.PassSettings(settings.objective, settings.optimizer, stages)
        steps, right, embedding = plain.cram_full(
            tiny, sample.tokens, start, job.learning_rate, procedure, run.fit.plan
        )
        outcome, (row,), _ = ended[job]
        assert (row["steps"], row["final_convergence"], row["exact"]) == (steps, right.mean(), right.all())
        assert (outcome.horizon, outcome.decode_tokens) == (np.cumprod(right).sum(), len(right))
        np.testing.assert_array_equal(row["embedding"], embedding)


@pytest.mark.slow
def test_on_a_model_whose_layers_differ(samples):
    """Scaled embeddings, windows shorter than the texts, two rotary bases, caps."""
    differing = {"num_kv_heads": 1, "windows": (3, None), "attention_cap": 20.0, "logit_cap": 20.0}
    config = GemmaConfig(**TINY | differing)
    assert_same_as_plain(lively(config), samples[:1], settings_for((1.0,), 150))


@pytest.mark.slow
def test_on_the_bundled_model():
    model = api.load_model()
    texts = api.load_texts("bundled", num_samples=2)
    samples = [
        Sample(t.sample_id, t.text, np.array(model.tokenizer.encode(t.text)[:40], np.int32)) for t in texts
    ]
    assert_same_as_plain(model.decoder, samples, settings_for((0.1, 1.0), 200))


@pytest.mark.slow
def test_on_stories260k(shared):
    model = api.load_model(str(shared / "models" / "stories260K"))
    assert port.find_checkpoint(model.name) == shared / "models" / "stories260K"
    texts = [
        api.generate(model, "One day", max_new_tokens=40, temperature=1.0, seed=seed) for seed in range(2)
    ]
    samples = [
        Sample(i, text, np.array(model.tokenizer.encode(text), np.int32)) for i, text in enumerate(texts)
    ]
    assert_same_as_plain(model.decoder, samples, settings_for((0.1, 1.0), 300))
