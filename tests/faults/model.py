"""A model that runs in milliseconds, as a directory in Hugging Face layout."""

import json
from pathlib import Path


def make_model(directory: Path) -> None:
    """One Llama layer of random weights, and a tokenizer of ten words, `w0` to `w9`.

    It is made by a process of its own, without JAX's environment: whoever calls this may want to fork, and
    must not start JAX.
    """
    import os
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.faults.model", str(directory.absolute())]
    tidy = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    subprocess.run(command, cwd=root, env=tidy | {"JAX_PLATFORMS": "cpu"}, check=True)


def _write(directory: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    from jaxcram.models import port
    from jaxcram.models.llama import LlamaConfig
    from tests.lively import lively

    config = LlamaConfig(
        vocab_size=10,
        width=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_size=16,
        mlp_width=64,
        max_positions=48,
        tied_head=True,
        norm_eps=1e-6,
    )
    directory.mkdir(parents=True)
    port.save(lively(config), directory)
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(10)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))


if __name__ == "__main__":
    import sys

    _write(Path(sys.argv[1]))
