"""The tokenizer: ids, texts and special tokens as transformers has them."""

import json
import os
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from jaxcram.errors import UserError
from jaxcram.text.tokens import load_texts, load_tokenizer

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


def test_the_default_follows_the_post_processor(make):
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
        f"{directory}: the tokenizer has no BOS token; omit bos"
    )


def test_padding_and_truncation_settings_are_ignored(make):
    def spoil(backend):
        backend.enable_truncation(5)
        backend.enable_padding(length=400)

    plain = load_tokenizer(make()).encode(TRICKY)
    assert load_tokenizer(make(spoil=spoil)).encode(TRICKY) == plain
    assert len(plain) > 5


def test_directories_without_a_tokenizer_are_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    assert refusal(load_tokenizer, tmp_path).startswith(
        f"{tmp_path}: no tokenizer.json; slow and pickled tokenizers are not supported, "
    )
    for name in (str(tmp_path / "absent"), "./absent", "", "a/b/c", str(tmp_path / "tokenizer.model")):
        assert refusal(load_tokenizer, name) == (
            f"model {name!r} is neither a directory nor a Hub name (owner/name); check its path"
        )


# Special tokens: which file names them, checked against transformers below

MAP, CONFIG, IDS, GENERATION = (
    "special_tokens_map.json",
    "tokenizer_config.json",
    "config.json",
    "generation_config.json",
)
WRITTEN_OUT = {"__type": "AddedToken", "content": EOS, "lstrip": False, "special": True}
SOURCES = {
    "the config": ({CONFIG: {"bos_token": BOS}}, 0),
    "the config, written out": ({CONFIG: {"bos_token": WRITTEN_OUT}}, 1),
    "the map alone": ({CONFIG: {}, MAP: {"bos_token": BOS}}, 0),
    "the map without a config": ({MAP: {"bos_token": BOS}}, 0),
    "the map, written out": ({CONFIG: {}, MAP: {"bos_token": {"content": EOS, "lstrip": False}}}, 1),
    "both": ({CONFIG: {"bos_token": BOS}, MAP: {"bos_token": EOS}}, 1),
    "both, and a config that is whole": (
        {
            CONFIG: {"bos_token": BOS, "added_tokens_decoder": {"0": {"content": BOS}}},
            MAP: {"bos_token": EOS},
        },
        0,
    ),
    "a config that says none": ({CONFIG: {"bos_token": None}}, None),
    "nothing": ({}, None),
}
# transformers' tokenizers do not look there, but its models do.
BY_ID = {
    "an id": ({CONFIG: {}, IDS: {"bos_token_id": 1}}, 1),
    "the id for generating first": ({IDS: {"bos_token_id": 1}, GENERATION: {"bos_token_id": 0}}, 0),
    "the first of several": ({IDS: {"bos_token_id": [1, 0]}}, 1),
    "an id, but a config that says none": ({CONFIG: {"bos_token": None}, IDS: {"bos_token_id": 1}}, None),
    "an id that is none": ({IDS: {"bos_token_id": 10**6}}, None),
    "an id of another type": ({IDS: {"bos_token_id": True}}, None),
}


def write_sources(directory, files):
    (directory / CONFIG).unlink()
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("case", [*SOURCES, *BY_ID])
@pytest.mark.parametrize("kind", ["bos", "eos"])
def test_special_tokens_are_found_in_every_file_that_names_them(make, case, kind):
    files, expected = (SOURCES | BY_ID)[case]
    directory = write_sources(make(), json.loads(json.dumps(files).replace("bos_token", f"{kind}_token")))
    tokenizer = load_tokenizer(directory)
    assert getattr(tokenizer, f"{kind}_id") == expected
    assert getattr(tokenizer, "eos_id" if kind == "bos" else "bos_id") is None
    if kind == "bos" and expected is not None:
        assert tokenizer.encode("x", bos=True)[0] == expected


@pytest.mark.parametrize("case", SOURCES)
def test_special_tokens_equal_transformers(make, case):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(write_sources(make(), SOURCES[case][0]))
    assert (theirs.bos_token_id, theirs.eos_token_id) == (SOURCES[case][1], None)


@pytest.mark.parametrize("name", [MAP, GENERATION, IDS])
def test_a_malformed_file_of_special_tokens_is_named(make, name):
    directory = write_sources(make(), {})
    (directory / name).write_text("{")
    assert refusal(load_tokenizer, directory).startswith(f"{directory / name}: not valid JSON (")


def test_a_directory_may_use_the_home_directory_and_any_name(make, tmp_path, monkeypatch):
    ids = load_tokenizer(make("BOS")).encode(TRICKY)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a b", "a:b", os.fsdecode(b"caf\xe9")):
        (tmp_path / name).mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tmp_path / file, tmp_path / name)
        assert load_tokenizer(f"~/{name}").encode(TRICKY) == ids


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": "1.0"}', b"\xff\xfe"])
def test_a_malformed_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert refusal(load_tokenizer, tmp_path).startswith(f"{tmp_path / 'tokenizer.json'}: not a tokenizer (")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_malformed_tokenizer_config_is_named(make, content):
    file = make() / "tokenizer_config.json"
    file.write_bytes(content)
    assert refusal(load_tokenizer, file.parent).startswith(f"{file}: ")


def test_loading_a_tokenizer_from_the_hub_downloads_no_weights(make, monkeypatch):
    directory, wanted = make("BOS"), []

    def download(name, allow_patterns, etag_timeout):
        wanted.append((name, allow_patterns))
        return str(directory)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_tokenizer("owner/name").encode("The")[0] == 0
    files = ["tokenizer.json", "tokenizer_config.json", MAP, GENERATION, IDS]
    assert wanted == [("owner/name", files)]


def test_an_unreachable_hub_name_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert refusal(load_tokenizer, "nobody/nothing").startswith(
        "model 'nobody/nothing' is not a directory, and the Hub did not provide it: "
    )
