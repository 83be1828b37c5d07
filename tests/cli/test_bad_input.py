"""Every mistake of the user, by the real entry point: one line, exit code 2, nothing computed or written."""

import json
import os
import shutil
from pathlib import Path

import pytest

from jaxcram.cli import main
from jaxcram.cram.engine import Engine
from jaxcram.results.directory import RunDirectory

TEXT = "Once upon"


class Case:
    """A good command line in a folder of its own, and what it needs to be spoilt."""

    def __init__(self, folder: Path, model: Path):
        self.folder = folder
        self.model = folder / "model"
        shutil.copytree(model, self.model)
        self.texts = folder / "texts.txt"
        self.texts.write_text(TEXT)
        self.out = folder / "out"

    def arguments(self, *more: str) -> list[str]:
        return ["cram", f"--model={self.model}", f"--texts={self.texts}", f"--out={self.out}", *more]

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def case(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    def computes(*arguments: object) -> None:
        pytest.fail("the mistake was seen only after the computation had begun")

    monkeypatch.setattr(Engine, "__init__", computes)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Case(tmp_path, tiny_model)


@pytest.fixture
def refusal(case: Case, capsys: pytest.CaptureFixture[str]):
    """Runs a command that must be refused; the line on stderr, without its beginning."""

    def run(*more: str) -> str:
        before = case.files()
        assert main.main(case.arguments(*more)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        beginning, _, rest = captured.err.partition("jaxcram cram: error: ")
        assert beginning == ""
        assert rest.count("\n") == 1
        assert rest.endswith("\n")
        assert case.files() == before
        return rest.removesuffix("\n")

    return run


def test_no_such_model_directory(refusal):
    assert (
        refusal("--model=./absent")
        == "model './absent' is neither a directory nor a Hub name (owner/name); check its path"
    )


def test_no_safetensors(case, refusal):
    (case.model / "model.safetensors").unlink()
    assert refusal() == f"{case.model}: has neither model.safetensors nor its index; give a whole checkpoint"


def test_a_pickle_only_checkpoint(case, refusal):
    (case.model / "model.safetensors").rename(case.model / "pytorch_model.bin")
    why = "has only pickled weights, which are never opened; convert them to safetensors"
    assert refusal() == f"{case.model}: {why}"


def test_a_truncated_safetensors_file(case, refusal):
    file = case.model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    why = "Error while deserializing header: incomplete metadata, file not fully covered"
    assert refusal() == f"{file}: not a complete safetensors file ({why}); download it again"


def test_no_tokenizer(case, refusal):
    (case.model / "tokenizer.json").unlink()
    assert refusal() == (
        f"{case.model}: no tokenizer.json; slow and pickled tokenizers are not supported, save it once with "
        "transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...)"
    )


def test_an_unknown_model_family(case, refusal):
    file = case.model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "mamba"}))
    listed = "gemma3, gemma3_text, gpt_neox, llama, qwen2, qwen3, smollm3"
    assert refusal() == f"{file}: model_type = 'mamba' is not a family here; families: {listed}"


def test_an_empty_text(case, refusal):
    case.texts.write_text("\n\n")
    assert refusal() == f"texts={case.texts} has no text; give another source"


def test_a_text_shorter_than_two_tokens(case, refusal):
    case.texts.write_text("O")
    assert refusal() == "sample 0: 'O' has fewer than 2 tokens (1); give a longer text"


def test_a_text_that_is_not_utf8(case, refusal):
    case.texts.write_bytes("caf\xe9 noir".encode("latin-1"))
    assert refusal() == f"{case.texts}: not UTF-8 (byte 3); convert it, for example with iconv -t UTF-8"


def test_a_text_longer_than_the_model_s_positions(case, refusal):
    case.texts.write_text("x" * 49)
    assert refusal() == (
        "sample 0: 49 tokens after 1 memory embeddings need 49 positions, the model has 48; "
        "truncate the texts with max_tokens=48"
    )


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--learning_rates=0.1,0", "learning rate 0.0 must be a finite number greater than 0"),
        ("--learning_rates=-1", "learning rate -1.0 must be a finite number greater than 0"),
        ("--learning_rates=nan", "learning rate nan must be a finite number greater than 0"),
        ("--learning_rates=0.1,1e", "flag --learning_rates=0.1,1e: '1e' is not a number"),
        (
            "--learning_rates=0.0001",
            "learning rate 0.0001 is below min_lr 0.001, the end of the cosine: raise it or lower min_lr",
        ),
        ("--num_memory=0", "num_memory 0 must be at least 1"),
        ("--dtype=int4", "dtype 'int4' is unknown; choose one of: float32, bfloat16"),
    ],
)
def test_a_value_out_of_its_range(refusal, flag, line):
    assert refusal(flag) == line


def test_an_output_directory_that_cannot_be_made(case, refusal):
    (case.folder / "file").write_text("in the way")
    out = case.folder / "file" / "run"
    why = "cannot be written (Not a directory); choose another directory"
    assert refusal(f"--out={out}") == f"{out}: {why}"


def test_an_output_directory_with_other_things_in_it(case, refusal):
    case.out.mkdir()
    (case.out / "thesis.tex").write_text("precious")
    assert refusal() == f"{case.out}: neither empty nor a run (it holds thesis.tex); choose another directory"


def test_an_output_directory_of_a_run_with_other_settings(case, refusal, monkeypatch, capsys):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "__init__", interrupted)
        assert main.main(case.arguments("--max_steps=5")) == 130
    capsys.readouterr()
    assert refusal("--max_steps=7") == (
        f"{case.out}: the run has other settings (max_steps: was 5, is 7); choose another directory or "
        "the run's own settings; only texts, learning_rates and seeds may be added"
    )


def test_an_output_directory_of_a_live_run(case, refusal):
    with RunDirectory.open(case.out, {}):
        why = f"process {os.getpid()} is working on this run; wait for it or choose another directory"
        assert refusal() == f"{case.out}: {why}"
