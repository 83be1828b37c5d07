"""Every file of configs/ is a command that the program takes, with the published settings and a cost."""

import dataclasses
import re
from pathlib import Path

import pytest

from jaxcram.cli import cram, evaluate, flags, knockout
from jaxcram.evaluate.settings import CRAM, TaskSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# [P]: model, learning rate, samples; the caps, schedule and optimiser are the same for all.
PUBLISHED = {
    "gemma3_1b": ("unsloth/gemma-3-1b-pt", 0.1, 10),
    "gemma3_270m": ("unsloth/gemma-3-270m", 0.1, 10),
    "gemma3_4b": ("unsloth/gemma-3-4b-pt", 0.1, 50),
    "llama3.1_8b": ("unsloth/Meta-Llama-3.1-8B", 0.1, 50),
    "llama3.2_1b": ("unsloth/Llama-3.2-1B", 0.1, 10),
    "llama3.2_3b": ("unsloth/Llama-3.2-3B", 0.1, 10),
    "pythia_1.4b": ("EleutherAI/pythia-1.4b", 0.5, 50),
    "pythia_160m": ("EleutherAI/pythia-160m", 0.5, 10),
    "pythia_410m": ("EleutherAI/pythia-410m", 0.5, 10),
    "qwen3_4b": ("Qwen/Qwen3-4B", 0.1, 10),
    "qwen3_8b": ("Qwen/Qwen3-8B", 0.1, 10),
    "smollm2_1.7b": ("HuggingFaceTB/SmolLM2-1.7B", 0.1, 50),
    "smollm2_135m": ("HuggingFaceTB/SmolLM2-135M", 0.1, 10),
    "smollm2_360m": ("HuggingFaceTB/SmolLM2-360M", 0.1, 10),
}
# What [P] reports: compressed tokens, bits, trajectory length, PCA 99%.
FIGURES = {
    "gemma3_1b": ("74.8±34.3", "338±104", "386±89", "18.9±6.59"),
    "gemma3_270m": ("71.2±14.2", "392±71", "259±32", "18.5±2.54"),
    "gemma3_4b": ("214±109", "783±370", "910±261", "30.8±9.5"),
    "llama3.1_8b": ("1438±380", "4391±1408", "6174±1263", "82.8±9.1"),
    "llama3.2_1b": ("402.2±84.8", "1500±282", "1736±206", "44.1±5.73"),
    "llama3.2_3b": ("902.2±206.8", "3074±527", "4232±913", "61.5±4.54"),
    "pythia_1.4b": ("430±65", "1639±188", "6496±610", "50.1±3.3"),
    "pythia_160m": ("10.7±2", "19±26", "652±196", "5.1±1.64"),
    "pythia_410m": ("102.1±40.8", "323±105", "3613±841", "37.5±11.16"),
    "qwen3_4b": ("512±105.2", "2389±324", "2043±269", "47.28±4.69"),
    "qwen3_8b": ("774.2±158.9", "3093±453", "3380±585", "53.9±5.94"),
    "smollm2_1.7b": ("335±61", "1208±162", "1051±147", "33.2±2.8"),
    "smollm2_135m": ("38.5±14.1", "168±66", "178±40", "12.2±2.96"),
    "smollm2_360m": ("61±24.6", "266±122", "234±111", "13.4±3.95"),
}
QUOTED = re.compile(
    r"Published: compressed tokens (.+?), information gain (.+?) bits, "
    r"trajectory length (.+?), PCA 99% (.+?)\. "
    r'Compare them with the lines "as published" of the second table; '
)


def read(name: str) -> cram.Command:
    return flags.parse(cram.Command, cram.TOPICS, [f"--flagfile={CONFIGS / name}.flags"])


def head(name: str) -> str:
    """The comment at the top, its lines joined."""
    lines = (CONFIGS / f"{name}.flags").read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") and len(line) <= 100 for line in lines)
    return " ".join(line.lstrip("# ") for line in lines)


def test_there_is_a_config_for_each_published_model_and_for_the_bundled_run():
    assert {file.stem for file in CONFIGS.iterdir()} == {*PUBLISHED, "bundled", "cloze"}


def test_the_bundled_run_is_the_default_one():
    assert read("bundled") == cram.Command()


def test_the_cloze_is_an_evaluation_and_a_knockout_of_bundled_items():
    arguments = [f"--flagfile={CONFIGS / 'cloze.flags'}"]
    for program in (evaluate, knockout):
        command = flags.parse(program.Command, program.TOPICS, arguments)
        assert (command.model, command.task) == (None, TaskSettings(task="cloze", limit=128))
        assert command.settings == dataclasses.replace(CRAM, learning_rates=(0.5,))


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


@pytest.mark.parametrize("name", FIGURES)
def test_a_config_quotes_the_published_figures_and_what_to_compare_with_them(name):
    found = QUOTED.search(head(name))
    assert found is not None
    assert tuple(figure.replace(" +- ", "±") for figure in found.groups()) == FIGURES[name]
    assert read(name).as_published
    assert read(name).source.max_tokens > 2 * float(
        FIGURES[name][0].partition("±")[0]
    )  # truncated far beyond


@pytest.mark.parametrize("name", FIGURES)
def test_the_quoted_figures_are_those_of_the_reference(name, shared):
    """In a row of the model's, in either of two files that spell models and tables in their own way."""
    model = PUBLISHED[name][0].partition("/")[2].removeprefix("Meta-").removesuffix("-pt").lower()
    files = [shared / "protocols.md", shared / "reference" / "published.md"]
    if not all(file.is_file() for file in files):
        pytest.skip("the files of published figures are absent")
    lines = "\n".join(file.read_text() for file in files).lower().replace("+-", "±").splitlines()
    rows = [line.replace(" | ", ", ") for line in lines if line.startswith(f"| {model}")]
    assert any(", ".join(FIGURES[name]) in row for row in rows)


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_config_takes_max_steps_for_a_cap_alone(name):
    text = head(name)
    assert "lifts" not in text
    assert ("Caution" in text) == ("the cosine ends at --max_steps, so it is stretched too." in text)


@pytest.mark.parametrize("name", [*PUBLISHED, "bundled"])
def test_a_config_header_has_command_cost_and_published_figure(name):
    text = head(name)
    assert f"Command: jaxcram cram --flagfile=configs/{name}.flags" in text
    assert "Expected cost" in text
    assert "Published: " in text
    if name in PUBLISHED:
        assert "an estimate, not measured" in text
