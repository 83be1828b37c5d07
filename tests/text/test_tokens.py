"""Targets that the model can take, and texts that their tokens do not give back."""

import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from jaxcram.text.tokens import Text, Tokenizer, load_tokenizer, padded, tokenize
from tests.text import test_tokenizer
from tests.text.test_tokenizer import EOS, TRICKY, refusal

backend_json, make = test_tokenizer.backend_json, test_tokenizer.make  # fixtures

# Targets


def targets(texts, tokenizer, **options):
    options = {"max_tokens": None, "bos": None, "max_positions": 512} | options
    return tokenize([Text(7 + index, text) for index, text in enumerate(texts)], tokenizer, **options)


def test_targets_have_the_tokens_and_the_sample_id(make):
    tokenizer = load_tokenizer(make("BOS"))
    samples = targets(["The cat", TRICKY], tokenizer)
    assert [sample.sample_id for sample in samples] == [7, 8]
    assert [sample.text for sample in samples] == ["The cat", TRICKY]
    for sample in samples:
        assert sample.tokens.dtype == np.int32
        assert sample.tokens.tolist() == tokenizer.encode(sample.text)
    assert targets(["The cat"], tokenizer, bos=False)[0].tokens.tolist() == samples[0].tokens[1:].tolist()


def test_a_truncated_target_keeps_its_first_tokens_and_their_text(make):
    tokenizer = load_tokenizer(make("BOS"))
    (whole,) = targets(["The cat sat on the mat."], tokenizer)
    (cut,) = targets(["The cat sat on the mat."], tokenizer, max_tokens=4)
    assert cut.tokens.tolist() == whole.tokens[:4].tolist()
    assert cut.text == tokenizer.decode(cut.tokens)
    assert whole.text.startswith(cut.text)
    (same,) = targets(["The cat sat on the mat."], tokenizer, max_tokens=len(whole.tokens))
    assert (same.text, same.tokens.tolist()) == (whole.text, whole.tokens.tolist())


def test_targets_too_short_are_refused(make):
    tokenizer = load_tokenizer(make("BOS"))
    assert targets(["a"], tokenizer)[0].tokens.tolist() == [0, *tokenizer.encode("a", bos=False)]
    assert refusal(targets, ["The cat", "a"], tokenizer, bos=False) == (
        "sample 8: 'a' has fewer than 2 tokens (1); give a longer text"
    )
    assert refusal(targets, ["The cat"], tokenizer, max_tokens=1) == (
        "max_tokens=1: a target needs at least 2 tokens"
    )


@pytest.mark.parametrize("num_memory", [1, 4])
def test_targets_longer_than_the_model_are_refused(make, num_memory):
    tokenizer = load_tokenizer(make("none"))
    text = "Zq" * 20
    length = len(tokenizer.encode(text))
    room = num_memory + length - 1
    (fits,) = targets([text], tokenizer, max_positions=room, num_memory=num_memory)
    assert len(fits.tokens) == length
    assert refusal(targets, [text], tokenizer, max_positions=room - 1, num_memory=num_memory) == (
        f"sample 7: {length} tokens after {num_memory} memory embeddings need {room} positions, "
        f"the model has {room - 1}; truncate the texts with max_tokens={length - 1}"
    )
    (cut,) = targets([text], tokenizer, max_positions=room - 1, num_memory=num_memory, max_tokens=length - 1)
    assert len(cut.tokens) == length - 1


def test_too_many_memory_embeddings_are_refused(make):
    tokenizer = load_tokenizer(make("none"))
    assert refusal(targets, ["The cat"], tokenizer, max_positions=512, num_memory=600) == (
        "num_memory=600: the model has 512 positions, and a text needs at least one; lower it to 511"
    )
    assert refusal(targets, ["The cat"], tokenizer, max_positions=512, num_memory=512).startswith(
        "num_memory=512"
    )
    (fits,) = targets(["The cat"], tokenizer, max_positions=512, num_memory=511, max_tokens=2)
    assert len(fits.tokens) == 2


# Texts that tokens do not give back


def words(unk_special: bool = True, unigram: bool = False) -> Tokenizer:
    """A tokenizer of few words, "<unk>" for all others."""
    known = ["<unk>", "one", "two", "three"]
    if unigram:
        model = models.Unigram([(word, -1.0) for word in known], unk_id=0)
    else:
        model = models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>")
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if unk_special:
        backend.add_special_tokens(["<unk>"])
    return Tokenizer(backend, name="words", bos_token=None, eos_token=None)


@pytest.mark.parametrize("unk_special", [True, False])
def test_texts_with_unknown_tokens_are_named(caplog, unk_special):
    samples = targets(["one two", "one 2 three 4", "one two three", "ONE two"], words(unk_special))
    assert [sample.restored for sample in samples] == [True, False, True, False]
    assert caplog.messages == [
        "2 of 4 texts cannot be restored exactly, since their tokens do not decode to them: "
        "sample 8 (2 of 4 tokens unknown); sample 10 (1 of 2 tokens unknown)"
    ]


@pytest.mark.parametrize("unigram", [True, False])
def test_a_text_of_nothing_but_unknown_tokens_is_refused(unigram):
    tokenizer = words(unigram=unigram)
    assert tokenizer.unk_id == 0
    assert refusal(targets, ["one two", "日本 ΩβΓ"], tokenizer) == (
        "sample 8: '日本 ΩβΓ' has only unknown tokens in this tokenizer; "
        "remove it, or use a model whose tokenizer knows its characters"
    )


def test_only_the_kept_part_of_a_truncated_text_counts(caplog):
    tokenizer = words()
    (sample,) = targets(["one two 3"], tokenizer, max_tokens=2)
    assert (sample.text, sample.restored, caplog.messages) == ("one two", True, [])
    (sample,) = targets(["one 2 three"], tokenizer, max_tokens=2)
    assert (sample.text, sample.restored) == ("one", False)
    assert caplog.messages[0].endswith("sample 7 (1 of 2 tokens unknown)")
    assert "has only unknown tokens" in refusal(targets, ["1 2 three"], tokenizer, max_tokens=2)


def test_texts_with_dropped_characters_are_named(caplog):
    backend = Backend(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer = Tokenizer(backend, name="ab", bos_token=None, eos_token=None)
    backend.decoder = decoders.Fuse()
    assert [sample.restored for sample in targets(["ab", "acb"], tokenizer)] == [True, False]
    assert caplog.messages == [
        "1 of 2 texts cannot be restored exactly, since their tokens do not decode to them: sample 8"
    ]


def test_texts_of_every_script_are_restored_by_byte_tokens(make, caplog):
    tokenizer = load_tokenizer(make("BOS and EOS"))
    (text,) = targets(["naïve 日本 😀 \t\n x"], tokenizer)
    assert text.restored
    for cut in range(2, len(text.tokens)):  # in the middle of a character too
        assert targets([text.text], tokenizer, max_tokens=cut)[0].restored
    assert caplog.messages == []
    assert not targets([f"a {EOS} b"], tokenizer)[0].restored  # the spelt token is left out of texts


def test_importing_texts_and_results_loads_nothing_slow():
    heavy = "{'jax', 'torch', 'transformers', 'datasets', 'pyarrow', 'huggingface_hub', 'pandas'}"
    modules = "jaxcram.text.tokens, jaxcram.results.directory"
    body = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", body], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 8), (8, 8), (9, 16), (33, 40), (64, 64), (65, 80), (129, 160), (257, 320)]
)
def test_padded_lengths_are_eighths_of_a_power_of_two(length, expected):
    assert padded(length) == expected
