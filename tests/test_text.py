"""Tokens: the same as transformers', and targets that the model can take."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from jaxcram.errors import UserError
from jaxcram.text import Text, Tokenizer, load_texts, load_tokenizer, tokenize

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
        f"{directory}: the tokenizer names no BOS token; leave out bos"
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
    for name in (str(tmp_path / "absent"), "./absent", "", "a/b/c", str(tmp_path / "tokenizer.model")):
        assert refusal(load_tokenizer, name) == (
            f"model {name!r} is no directory and no Hub name (owner/name); check its path"
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
def test_special_tokens_are_found_wherever_they_are_named(make, case, kind):
    files, expected = (SOURCES | BY_ID)[case]
    directory = write_sources(make(), json.loads(json.dumps(files).replace("bos_token", f"{kind}_token")))
    tokenizer = load_tokenizer(directory)
    assert getattr(tokenizer, f"{kind}_id") == expected
    assert getattr(tokenizer, "eos_id" if kind == "bos" else "bos_id") is None
    if kind == "bos" and expected is not None:
        assert tokenizer.encode("x", bos=True)[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize("case", SOURCES)
def test_special_tokens_equal_transformers(make, case):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(write_sources(make(), SOURCES[case][0]))
    assert (theirs.bos_token_id, theirs.eos_token_id) == (SOURCES[case][1], None)


@pytest.mark.parametrize("name", [MAP, GENERATION, IDS])
def test_a_malformed_file_that_may_name_them_is_named(make, name):
    directory = write_sources(make(), {})
    (directory / name).write_text("{")
    assert refusal(load_tokenizer, directory).startswith(f"{directory / name}: not valid JSON (")


def test_a_directory_is_found_by_its_home_and_whatever_its_name(make, tmp_path, monkeypatch):
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


def test_of_a_hub_name_no_weights_are_downloaded_for_its_tokenizer(make, monkeypatch):
    directory, wanted = make("BOS"), []

    def download(name, allow_patterns, etag_timeout):
        wanted.append((name, allow_patterns))
        return str(directory)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_tokenizer("owner/name").encode("The")[0] == 0
    files = ["tokenizer.json", "tokenizer_config.json", MAP, GENERATION, IDS]
    assert wanted == [("owner/name", files)]


def test_a_hub_name_out_of_reach_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert refusal(load_tokenizer, "nobody/nothing").startswith(
        "model 'nobody/nothing' is not a directory, and the Hub did not give it: "
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
        "max_tokens=1: a target has at least 2 tokens"
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
        f"the model has {room - 1}; cut the texts with max_tokens={length - 1}"
    )
    (cut,) = targets([text], tokenizer, max_positions=room - 1, num_memory=num_memory, max_tokens=length - 1)
    assert len(cut.tokens) == length - 1


def test_more_memory_than_the_model_has_positions_for(make):
    tokenizer = load_tokenizer(make("none"))
    assert refusal(targets, ["The cat"], tokenizer, max_positions=512, num_memory=600) == (
        "num_memory=600: the model has 512 positions, and a text needs one too; lower it to 511"
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
def test_unknown_tokens_are_told_with_their_texts(caplog, unk_special):
    samples = targets(["one two", "one 2 three 4", "one two three", "ONE two"], words(unk_special))
    assert [sample.restored for sample in samples] == [True, False, True, False]
    assert caplog.messages == [
        "2 of 4 texts cannot come back as they are, as their tokens do not decode to them: "
        "sample 8 (2 of 4 tokens unknown); sample 10 (1 of 2 tokens unknown)"
    ]


@pytest.mark.parametrize("unigram", [True, False])
def test_a_text_of_nothing_but_unknown_tokens_is_refused(unigram):
    tokenizer = words(unigram=unigram)
    assert tokenizer.unk_id == 0
    assert refusal(targets, ["one two", "日本 ΩβΓ"], tokenizer) == (
        "sample 8: '日本 ΩβΓ' is nothing but unknown tokens to this tokenizer; "
        "leave it out, or take a model whose tokenizer knows its characters"
    )


def test_of_a_cut_text_only_what_was_kept_counts(caplog):
    tokenizer = words()
    (sample,) = targets(["one two 3"], tokenizer, max_tokens=2)
    assert (sample.text, sample.restored, caplog.messages) == ("one two", True, [])
    (sample,) = targets(["one 2 three"], tokenizer, max_tokens=2)
    assert (sample.text, sample.restored) == ("one", False)
    assert caplog.messages[0].endswith("sample 7 (1 of 2 tokens unknown)")
    assert "nothing but unknown tokens" in refusal(targets, ["1 2 three"], tokenizer, max_tokens=2)


def test_characters_that_the_tokenizer_drops_are_told(caplog):
    backend = Backend(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer = Tokenizer(backend, name="ab", bos_token=None, eos_token=None)
    backend.decoder = decoders.Fuse()
    assert [sample.restored for sample in targets(["ab", "acb"], tokenizer)] == [True, False]
    assert caplog.messages == [
        "1 of 2 texts cannot come back as they are, as their tokens do not decode to them: sample 8"
    ]


def test_texts_of_every_script_are_given_back_by_bytes(make, caplog):
    tokenizer = load_tokenizer(make("BOS and EOS"))
    (text,) = targets(["naïve 日本 😀 \t\n x"], tokenizer)
    assert text.restored
    for cut in range(2, len(text.tokens)):  # in the middle of a character too
        assert targets([text.text], tokenizer, max_tokens=cut)[0].restored
    assert caplog.messages == []
    assert not targets([f"a {EOS} b"], tokenizer)[0].restored  # the spelt token is left out of texts


def test_importing_texts_and_results_stays_light():
    heavy = "{'jax', 'torch', 'transformers', 'datasets', 'pyarrow', 'huggingface_hub', 'pandas'}"
    body = f"import sys, jaxcram.text, jaxcram.results; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", body], capture_output=True, text=True).stdout == "[]\n"
