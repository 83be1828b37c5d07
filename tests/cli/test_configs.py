"""Every file of configs/ is a command that the program takes, with the published settings and a cost."""

from pathlib import Path

import pytest

from jaxcram.cli import cram, flags

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# [P]: model, learning rate, samples; the caps, schedule and optimiser are the same for all.
PUBLISHED = {
    "llama3.1_8b": ("unsloth/Meta-Llama-3.1-8B", 0.1, 50),
    "llama3.2_1b": ("unsloth/Llama-3.2-1B", 0.1, 10),
    "llama3.2_3b": ("unsloth/Llama-3.2-3B", 0.1, 10),
    "pythia_1.4b": ("EleutherAI/pythia-1.4b", 0.5, 50),
    "pythia_160m": ("EleutherAI/pythia-160m", 0.5, 10),
    "pythia_410m": ("EleutherAI/pythia-410m", 0.5, 10),
    "smollm2_1.7b": ("HuggingFaceTB/SmolLM2-1.7B", 0.1, 50),
    "smollm2_135m": ("HuggingFaceTB/SmolLM2-135M", 0.1, 10),
    "smollm2_360m": ("HuggingFaceTB/SmolLM2-360M", 0.1, 10),
}
# Mean horizons that [P] reports; the cut of the texts must lie far beyond.
HORIZON = {
    "llama3.1_8b": 1438,
    "llama3.2_1b": 402,
    "pythia_1.4b": 430,
    "pythia_160m": 10.7,
    "pythia_410m": 102,
    "smollm2_1.7b": 335,
    "smollm2_135m": 38.5,
    "smollm2_360m": 61,
}


def read(name: str) -> cram.Command:
    return flags.parse(cram.Command, cram.TOPICS, [f"--flagfile={CONFIGS / name}.flags"])


def head(name: str) -> str:
    """The comment at the top, its lines joined."""
    lines = (CONFIGS / f"{name}.flags").read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") and len(line) <= 100 for line in lines)
    return " ".join(line.lstrip("# ") for line in lines)


def test_there_is_a_config_for_each_published_model_and_for_the_bundled_run():
    assert {file.stem for file in CONFIGS.iterdir()} == {*PUBLISHED, "bundled"}


def test_the_bundled_run_is_the_default_one():
    assert read("bundled") == cram.Command()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_has_the_published_settings(name):
    command = read(name)
    model, learning_rate, samples = PUBLISHED[name]
    settings, source = command.settings, command.source
    assert (command.model, command.dtype, command.out) == (model, "bfloat16", f"runs/{name}")
    assert (source.texts, source.split, source.offset) == ("LarryLovestein/pg19_1k", "train", 0)
    assert (source.num_samples, source.bos) == (samples, None)
    assert (settings.learning_rates, settings.seeds, settings.num_memory) == ((learning_rate,), (0,), 1)
    assert (settings.init, settings.objective.loss, settings.objective.temperature) == (
        "uniform",
        "cross_entropy",
        1.0,
    )
    stages, optimizer = settings.stages, settings.optimizer
    assert (stages.mode, stages.min_tokens, stages.progressive_step) == ("progressive", 1, 1)
    assert (stages.max_steps, stages.max_steps_per_token) == (10_000, 1_000)
    assert (optimizer.schedule, optimizer.warmup_steps, optimizer.min_lr) == ("cosine", 100, 1e-3)
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps, optimizer.weight_decay) == (0.9, 0.9, 1e-8, 0.01)


@pytest.mark.parametrize("name", HORIZON)
def test_texts_are_truncated_far_beyond_the_published_horizon(name):
    assert read(name).source.max_tokens > 2 * HORIZON[name]
    assert f"horizon {HORIZON[name]}" in head(name)


@pytest.mark.parametrize("name", [*PUBLISHED, "bundled"])
def test_a_config_header_has_command_cost_and_published_figure(name):
    text = head(name)
    assert f"Command: jaxcram cram --flagfile=configs/{name}.flags" in text
    assert "Expected cost" in text
    assert "Published: " in text
    if name in PUBLISHED:
        assert "an estimate, not measured" in text
