"""Every family from a directory that transformers saved: it loads, generates, crams and is resumed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jaxcram import api

PARITY = Path(__file__).parent / "fixtures" / "parity"
TEXT = "w3 w1"


SLOWLY = [pytest.param(f"{family}_plain", marks=pytest.mark.slow) for family in ("qwen2", "qwen3", "smollm3")]


@pytest.mark.parametrize("case", ["gemma_plain", *SLOWLY])
def test_a_family_generates_and_crams(case: str, tmp_path: Path):
    directory = Path(shutil.copytree(PARITY / case, tmp_path / "model"))
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.save(str(directory / "tokenizer.json"))
    fields = json.loads((directory / "config.json").read_text()) | {"eos_token_id": None}
    (directory / "config.json").write_text(json.dumps(fields))
    model = api.load_model(directory)

    # The most likely token after the recorded text is what transformers said of it.
    with np.load(PARITY / case / "expected.npz") as expected:
        prompt = " ".join(f"w{token}" for token in expected["tokens"][0])
        following = f"w{expected['logits'][0, -1].argmax()}"
    assert api.generate(model, prompt, max_new_tokens=1) == f"{prompt} {following}"

    def cram() -> api.Run:
        return api.cram(
            model, [TEXT], out=tmp_path / "run", learning_rates=0.1, max_steps_per_token=300, verbose=False
        )

    (lane,) = cram().summary["lanes"]
    # The same run again: its config is known as it was recorded.
    assert cram().summary["lanes"] == [lane]
    assert (lane["horizon"], lane["exact_accuracy"], lane["tf_accuracy"]) == (2, 1.0, 1.0)
