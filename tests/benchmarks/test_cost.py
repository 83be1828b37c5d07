"""The table of costs: its published steps, its FLOPs against those of passes, its hours by hand."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import cost
from common import passes
from jaxcram.cram.lanes import Bucket
from jaxcram.models.decoder import Decoder

FILES = {
    "Llama-3.1-8B": "llama31_8b",
    "Pythia-1.4B": "pythia_1.4b",
    "SmolLM2-1.7B": "smollm2_1.7b",
    "Gemma-3-4B": "gemma3_4b",
}
PARAMETERS = {
    "Llama-3.1-8B": 8_030_261_248,
    "Pythia-1.4B": 1_414_647_808,
    "SmolLM2-1.7B": 1_711_376_384,
    "Gemma-3-4B": 3_880_263_168,
}


def shapes(name: str) -> Decoder:
    return nnx.eval_shape(lambda: Decoder(cost.MODELS[name], dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(("model", "variant"), cost.PUBLISHED)
def test_the_published_steps_are_those_of_the_record(model, variant, shared):
    samples = json.loads((shared / "reference" / f"{FILES[model]}.json").read_text())["samples"]
    assert len(samples) == cost.TEXTS
    stages = [
        (n, steps)
        for sample in samples.values()
        for n, steps in enumerate(sample["variants"]["base" if variant == "plain" else "lowdim"]["steps"], 1)
        if steps is not None
    ]
    sums = tuple(sum(n**power * steps for n, steps in stages) for power in (0, 1, 2))
    assert cost.PUBLISHED[model, variant] == sums


@pytest.mark.parametrize("model", cost.MODELS)
def test_the_models_have_the_published_parameters(model):
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(model))) == PARAMETERS[model]


def test_flops_of_a_text_are_those_of_its_passes():
    model, stages = "Pythia-1.4B", {1: 3, 2: 22, 57: 10, 400: 1_000}
    steps = cost.Steps(*(sum(n**power * count for n, count in stages.items()) for power in (0, 1, 2)))
    flops = sum(
        count * passes.pass_flops(shapes(model), Bucket(tokens=n, lanes=1)) for n, count in stages.items()
    )
    assert cost.text_flops(cost.MODELS[model], steps) * cost.TEXTS == pytest.approx(flops, rel=1e-12)


def test_hours_are_flops_over_what_the_devices_give():
    command = cost.Command(peak_share=0.25, useful_share=0.5, num_samples=50)
    table = {(row["model"], row["variant"], row["machine"]): row for row in cost.rows(command)}
    assert len(table) == 24
    row = table["Llama-3.1-8B", "plain", "v5e-16"]
    assert row["balance"] == 50 / 64
    expected = row["exaflop"] * 1e18 / (0.5 * 50 / 64 * 0.25 * 16 * 197e12) / 3600
    assert row["hours"] == pytest.approx(expected)
    assert row["device_hours"] == pytest.approx(16 * expected)


def test_the_page_shows_what_the_program_prints(capsys):
    cost.main(cost.Command())
    page = Path(cost.__file__).parents[1] / "launch" / "README.md"
    assert f"```\n{capsys.readouterr().out}```" in page.read_text()


def test_a_mistake_is_one_line():
    program = Path(cost.__file__)
    done = subprocess.run(
        [sys.executable, program, "--peak_share=2"], capture_output=True, text=True, check=False
    )
    complaint = "error: --peak_share=2.0 is no share: above 0, and at most 1\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", complaint)
