"""Evaluations on a tiny model: both sides decide alike, and the records say so under exact keys."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import evaluation  # noqa: E402
from common import pairs, torch_reference  # noqa: E402
from jaxcram.cram.settings import CramSettings, StageSettings  # noqa: E402
from jaxcram.evaluate.choices import Choices  # noqa: E402
from jaxcram.models import port  # noqa: E402

pytestmark = pytest.mark.slow

SETTINGS = CramSettings(
    learning_rates=(0.3,), stages=StageSettings(mode="full", max_steps=40), trajectory="horizon"
)
TIMES = ["jaxcram_s", "jaxcram_first_s", "torch_s", "ratio", "ratio_with_compile"]
AGREEMENT = ["decisions", "decisions_differ", "largest_difference"]


@pytest.fixture(scope="module")
def pair(llama, tmp_path_factory):
    """A tiny Llama, saved and read by both sides."""
    directory = tmp_path_factory.mktemp("llama")
    port.save(llama(), directory)
    model = port.load(directory, dtype="float32")
    return pairs.Pair(model, torch_reference.load(directory, device="cpu", dtype=torch.float32))


@pytest.fixture(scope="module")
def items():
    """Five items of two endings, with contexts of several lengths."""
    rng = np.random.default_rng(0)
    made = []
    for number, length in enumerate((3, 5, 4, 6, 3)):
        context = rng.integers(0, 64, length).astype(np.int32)
        texts = tuple(np.r_[context, rng.integers(0, 64, n)].astype(np.int32) for n in (3, 5))
        made.append(Choices(number, number % 2, context, texts, (length, length), (1, 1), (1, 1)))
    return made


def test_records_of_both_measurements(pair, items):
    crams, mem_IxKxD = evaluation.evaluate_record(pair, items, SETTINGS, batch=2)
    sweep = evaluation.knockout_record(pair, items, mem_IxKxD, batch=2)
    assert list(crams) == [
        *("measurement", "items", *TIMES, "jaxcram_converged", "torch_converged", *AGREEMENT),
        *("jaxcram_shapes", "others_share"),
    ]
    assert list(sweep) == [
        *("measurement", "items", *TIMES, "jaxcram_converged", "torch_converged", *AGREEMENT),
        *("conditions", "tf_accuracies_differ", "others_share"),
    ]
    assert set(evaluation.COLUMNS) - {"torch_threads"} <= set(crams) & set(sweep)
    assert (crams["decisions"], crams["decisions_differ"]) == (5 * 8, 0)
    assert (sweep["decisions"], sweep["decisions_differ"], sweep["tf_accuracies_differ"]) == (5 * 4, 0, 0)
    assert max(crams["largest_difference"], sweep["largest_difference"]) < 1e-3
    assert crams["jaxcram_converged"] == crams["torch_converged"]
    assert crams["ratio"] == crams["torch_s"] / crams["jaxcram_s"]
