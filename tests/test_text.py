"""Tokens: the same as transformers', and targets that the model can take."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from jaxcram.errors import UserError
from jaxcram.text import Text, load_texts, load_tokenizer, tokenize

TRICKY = "The cat's naïve — dog 😀 sat.\n\n  On the mat, <|end|> in 1984\t..."
BOS, EOS = "<|begin|>", "<|end|>"


def template(single: str, backend: Backend) -> processors.TemplateProcessing:
    specials = [(token, backend.token_to_id(token)) for token in (BOS, EOS)]
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=specials)


POST_PROCESSORS = {
    "none": lambda backend: None,
    "byte level, as Pythia's and SmolLM2's": lambda backend: processors.ByteLevel(trim_offsets=True),
    "BOS": lambda backend: template(f"{BOS} $A", backend),
    "byte level and BOS, as Llama-3's": lambda backend: processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), template(f"{BOS} $A", backend)]
    ),
    "BOS and EOS": lambda backend: template(f"{BOS} $A {EOS}", backend),
}


@pytest.fixture(scope="module")
def backend_json() -> str:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([text.text for text in load_texts("stories:20", num_samples=None)], trainer)
    return backend.to_str()


@pytest.fixture
def make(tmp_path, backend_json):
    """Writes a tokenizer directory: which post-processor, what tokenizer_config.json says."""

    def write(post_processor="none", *, spoil=lambda backend: None, **config):
        backend = Backend.from_str(backend_json)
        if (processor := POST_PROCESSORS[post_processor](backend)) is not None:
            backend.post_processor = processor
        spoil(backend)
        backend.save(str(tmp_path / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS} | config
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# The tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("post_processor", POST_PROCESSORS)
def test_ids_and_texts_equal_transformers(make, post_processor):
    from transformers import AutoTokenizer

    for add_bos_token in ({}, {"add_bos_token": True}, {"add_bos_token": False}):
        directory = make(post_processor, **add_bos_token)
        ours, theirs = load_tokenizer(directory), AutoTokenizer.from_pretrained(directory)
        ids = theirs.encode(TRICKY)
        assert ours.encode(TRICKY) == ids
        assert ours.encode(TRICKY, bos=False) == theirs.encode(TRICKY, add_special_tokens=False)
        assert ours.encode(TRICKY, bos=True) == [theirs.bos_token_id, *ours.encode(TRICKY, bos=False)]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids, skip_special=False) == theirs.decode(ids)
        assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (0, 1, len(theirs))


@pytest.mark.slow
def test_the_reference_model_equals_transformers_and_begins_with_bos(shared):
    from transformers import AutoTokenizer

    directory = shared / "models" / "stories260K"
    ours, theirs = load_tokenizer(directory), AutoTokenizer.from_pretrained(directory)
    texts = [TRICKY, "", " Zoo", *(text.text for text in load_texts("bundled", num_samples=None))]
    for text in texts:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ids[0] == ours.bos_id == 1
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_tokens_of_the_reference_model(shared):
    tokenizer = load_tokenizer(shared / "models" / "stories260K")
    assert tokenizer.encode("Zoo was") == tokenizer.encode("Zoo was", bos=True) == [1, 410, 469, 347, 286]
    assert tokenizer.encode("Zoo was", bos=False) == [410, 469, 347, 286]
    assert tokenizer.decode(np.array([1, 410, 469, 347, 286])) == "Zoo was"
    assert tokenizer.decode([1, 410], skip_special=False).startswith("<s>")
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (1, 2, 512)


def test_the_default_is_what_the_post_processor_says(make):
    text = load_tokenizer(make("none")).encode("The cat", bos=False)
    added = {name: load_tokenizer(make(name)).encode("The cat") for name in POST_PROCESSORS}
    assert list(added.values()) == [text, text, [0, *text], [0, *text], [0, *text, 1]]


def test_special_tokens_are_read_in_either_form(make):
    written_out = {"__type": "AddedToken", "content": EOS, "lstrip": False, "special": True}
    tokenizer = load_tokenizer(make(bos_token=written_out, eos_token=BOS))
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 0)


def test_without_a_tokenizer_config_there_is_no_bos_to_force(make):
    directory = make("none")
    (directory / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(directory)
    assert tokenizer.bos_id is None
    assert refusal(tokenizer.encode, "x", bos=True) == (
        f"{directory}: the tokenizer names no BOS token; leave out --bos"
    )


def test_padding_and_truncation_of_the_training_are_left_off(make):
    def spoil(backend):
        backend.enable_truncation(5)
        backend.enable_padding(length=400)

    plain = load_tokenizer(make()).encode(TRICKY)
    assert load_tokenizer(make(spoil=spoil)).encode(TRICKY) == plain
    assert len(plain) > 5


def test_directories_that_hold_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    assert refusal(load_tokenizer, tmp_path).startswith(
        f"{tmp_path}: no tokenizer.json; slow and pickled tokenizers are not supported, "
    )
    for name in (str(tmp_path / "absent"), "./absent", "", "a/b/c"):
        assert refusal(load_tokenizer, name) == f"{name}: no such model directory; check the path"
    file = tmp_path / "tokenizer.model"
    assert refusal(load_tokenizer, file).startswith(f"{file}: not a directory")


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": "1.0"}', b"\xff\xfe"])
def test_a_malformed_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert refusal(load_tokenizer, tmp_path).startswith(f"{tmp_path / 'tokenizer.json'}: not a tokenizer (")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_malformed_tokenizer_config_is_named(make, content):
    file = make() / "tokenizer_config.json"
    file.write_bytes(content)
    assert refusal(load_tokenizer, file.parent).startswith(f"{file}: ")


def test_a_hub_name_is_downloaded_file_by_file(make, tmp_path, monkeypatch):
    from huggingface_hub import errors

    directory = shutil.copytree(make("BOS"), tmp_path / "cache")
    wanted = []

    def download(name, filename):
        wanted.append((name, filename))
        if not (directory / filename).exists():
            raise errors.EntryNotFoundError(filename)
        return str(directory / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert load_tokenizer("owner/name").encode("The")[0] == 0
    assert wanted == [("owner/name", "tokenizer.json"), ("owner/name", "tokenizer_config.json")]
    (directory / "tokenizer_config.json").unlink()
    assert load_tokenizer("owner/name").bos_id is None
    (directory / "tokenizer.json").unlink()
    assert refusal(load_tokenizer, "owner/name").startswith("owner/name: no tokenizer.json; slow and pickled")


def test_a_hub_name_out_of_reach_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert refusal(load_tokenizer, "nobody/nothing") == (
        "nobody/nothing: neither a directory nor in the Hub's cache, and the Hub is out of reach; "
        "check the path or the network"
    )


# Targets


def targets(texts, tokenizer, **options):
    options = {"max_tokens": None, "bos": None, "max_positions": 512} | options
    return tokenize([Text(7 + index, text) for index, text in enumerate(texts)], tokenizer, **options)


def test_targets_hold_the_tokens_and_the_number_of_their_text(make):
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


def test_targets_too_short_to_cram(make):
    tokenizer = load_tokenizer(make("BOS"))
    assert targets(["a"], tokenizer)[0].tokens.tolist() == [0, *tokenizer.encode("a", bos=False)]
    assert refusal(targets, ["The cat", "a"], tokenizer, bos=False) == (
        "sample 8: 'a' has fewer than 2 tokens (1); give a longer text"
    )
    assert refusal(targets, ["The cat"], tokenizer, max_tokens=1) == (
        "--max_tokens=1: a target has at least 2 tokens"
    )


@pytest.mark.parametrize("num_memory", [1, 4])
def test_targets_longer_than_the_model(make, num_memory):
    tokenizer = load_tokenizer(make("none"))
    text = "Zq" * 20
    length = len(tokenizer.encode(text))
    room = num_memory + length - 1
    (fits,) = targets([text], tokenizer, max_positions=room, num_memory=num_memory)
    assert len(fits.tokens) == length
    assert refusal(targets, [text], tokenizer, max_positions=room - 1, num_memory=num_memory) == (
        f"sample 7: {length} tokens after {num_memory} memory embeddings take {room} positions, "
        f"the model has {room - 1}; cut the texts with --max_tokens={length - 1}"
    )
    (cut,) = targets([text], tokenizer, max_positions=room - 1, num_memory=num_memory, max_tokens=length - 1)
    assert len(cut.tokens) == length - 1


def test_importing_texts_and_results_stays_light():
    heavy = "{'jax', 'torch', 'transformers', 'datasets', 'pyarrow', 'huggingface_hub', 'pandas'}"
    body = f"import sys, jaxcram.text, jaxcram.results; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", body], capture_output=True, text=True).stdout == "[]\n"
