"""A prompt continued: it ends where transformers ends it, and is refused where it would mean nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jaxcram import api, decode
from jaxcram.errors import UserError

PARITY = Path(__file__).parent / "fixtures" / "parity" / "llama_plain"
PROMPT = "w3 w1 w4"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A small random model of 40 tokens, w0 to w39, whose tokenizer has one more, w40."""
    directory = Path(shutil.copytree(PARITY, tmp_path / "model"))
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(41)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.save(str(directory / "tokenizer.json"))
    edit(directory / "config.json", eos_token_id=None)
    return directory


def edit(file: Path, **fields: object) -> None:
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | fields))


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_generation_ends_with_the_first_end_token(directory: Path):
    whole = api.generate(api.load_model(str(directory)), PROMPT, max_new_tokens=12).split()
    assert len(whole) == 3 + 12
    new = whole[3:]
    last = max(new.index(word) for word in new)  # the last word to appear for the first time
    edit(directory / "generation_config.json", eos_token_id=[39, int(new[last][1:])])
    edit(directory / "config.json", eos_token_id=int(new[0][1:]))
    assert (
        api.generate(api.load_model(str(directory)), PROMPT, max_new_tokens=12).split()
        == whole[: 3 + last + 1]
    )
    (directory / "generation_config.json").unlink()
    assert api.generate(api.load_model(str(directory)), PROMPT, max_new_tokens=12).split() == whole[:4]


@pytest.mark.slow
@pytest.mark.parametrize("generation", [{"eos_token_id": [39, "last"]}, {"eos_token_id": "last"}, {}, None])
def test_generation_ends_as_in_transformers(directory: Path, generation):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    new = api.generate(api.load_model(str(directory)), PROMPT, max_new_tokens=12).split()[3:]
    last = int(new[max(new.index(word) for word in new)][1:])
    edit(directory / "config.json", eos_token_id=int(new[1][1:]))
    if generation is not None:
        fields = json.dumps(generation).replace('"last"', str(last))
        (directory / "generation_config.json").write_text(fields)
    theirs = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    ids = torch.tensor([[3, 1, 4]])
    answer = theirs.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0]
    ours = api.generate(api.load_model(str(directory)), PROMPT, max_new_tokens=12)
    assert ours == tokenizer.decode(answer, skip_special_tokens=True)


def test_tokens_beyond_the_vocabulary_are_refused_on_every_path(directory: Path, tmp_path: Path):
    model = api.load_model(str(directory))
    beyond = (
        "its token 40 is beyond the model's vocabulary of 40: tokenizer and weights do not belong together"
    )
    assert refusal(api.generate, model, "w1 w40", max_new_tokens=2) == f"the prompt: {beyond}"
    assert (
        refusal(decode.continue_prompt, model.decoder, np.array([[1, 40]]), 2, None)
        == f"the prompt: {beyond}"
    )
    for texts in (["w1 w2", "w1 w40"], (text for text in ["w1 w2", "w1 w40"])):
        assert refusal(api.cram, model, texts, out=tmp_path / "run") == f"sample 1: {beyond}"
    (tmp_path / "texts.txt").write_text("w40 w1")
    assert refusal(api.cram, model, tmp_path / "texts.txt", out=tmp_path / "run") == f"sample 0: {beyond}"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_overflow_are_refused(directory: Path, temperature: float):
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"][5] = 3e38
    save_file(weights, directory / "model.safetensors")
    model = api.load_model(str(directory))
    assert refusal(api.generate, model, PROMPT, max_new_tokens=4, temperature=temperature) == (
        f"model {directory}: its logits at position 2 are not finite, though its weights are; "
        "it is damaged, or overflows in float32"
    )


def test_invalid_prompts_are_refused_before_the_model_is_loaded(tmp_path: Path):
    def cram(texts):
        return refusal(api.cram, str(tmp_path / "absent"), texts, out=tmp_path / "run")

    assert cram(["x", None]).startswith("texts: entry 1 is None, not a text")
    assert cram(None).startswith("texts: NoneType is neither a source nor a list of texts")
    assert cram([]) == "texts: the list is empty; give at least one text"
    assert not (tmp_path / "run").exists()
