"""Texts and their tokens.

The tokenizer is read straight from tokenizer.json, so that start-up does not pay for transformers.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tokenizers import Tokenizer as Backend

from jaxcram import documents
from jaxcram.errors import UserError
from jaxcram.sources import Text, load_texts

__all__ = ["Sample", "Text", "Tokenizer", "load_texts", "load_tokenizer", "tokenize"]

T = TypeVar("T")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MOST_BYTES = 1 << 26  # of tokenizer.json; those of large vocabularies have 35 MB
_CHARACTERS = 1 << 18  # tokenised of a text; more where more tokens are asked for
_CHARACTERS_A_TOKEN = 16  # no natural text has more over its whole length
_MOST_ID = 2**31 - 1
_PATIENCE_S = 20.0  # for any text; a good tokenizer takes a hundredth of that

_STDERR = threading.Lock()


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        bos_id: id of the token that begins a text, None where the tokenizer names none.
        eos_id: id of the token that ends a text, None where the tokenizer names none.
        vocab_size: number of tokens, added ones included; a model's embedding may have more rows.
        digest: of the tokenizer.json that it was read from, "" where there was none.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        bos_token: str | None,
        eos_token: str | None,
        digest: str = "",
    ):
        self.digest = digest
        # Padding and truncation left in tokenizer.json are habits of training; no target is changed by them.
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._name = name
        self.bos_id: int | None = backend.token_to_id(bos_token) if bos_token else None
        self.eos_id: int | None = backend.token_to_id(eos_token) if eos_token else None
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """Token ids of `text`.

        Args:
            text: any text; a special token spelled out in it becomes that token's id.
            bos: None adds what the post-processor of tokenizer.json says, BOS or not, which is the default of
                transformers' AutoTokenizer (5.x ignores `add_bos_token` of tokenizer_config.json where there
                is a tokenizer.json). True gives BOS and the text, False the text alone.

        Raises:
            UserError: BOS is asked for and the tokenizer has none; the text is no Unicode; tokenizer.json is
                such that it fails or takes for ever.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{text[:40]!r}: half a surrogate pair (character {error.start}); mend it"
            ) from error
        ids = self._asked(lambda: self._backend.encode_batch([text], add_special_tokens=bos is None)[0].ids)
        if not bos:
            return ids
        if self.bos_id is None:
            raise UserError(f"{self._name}: the tokenizer names no BOS token; leave out --bos")
        return [self.bos_id, *ids]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of token ids; bytes that do not form a character come out as U+FFFD."""
        numbers = [int(token) for token in ids]
        return self._asked(lambda: self._backend.decode_batch([numbers], skip_special_tokens=skip_special)[0])

    def _asked(self, call: Callable[[], T]) -> T:
        """What a call of the backend gives.

        In a thread, as a pattern of tokenizer.json may search for ever: calls for batches let others run.
        """
        answer: list[T] = []
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                answer.append(call())
            except BaseException as error:  # a panic of the Rust side is no Exception
                errors.append(error)

        with _quiet():
            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join(_PATIENCE_S)
        if answer:
            return answer[0]
        why = _first_line(errors[0]) if errors else f"it took more than {_PATIENCE_S:g} s"
        raise UserError(f"{self._name}: its tokenizer.json does not work ({why}); download or save it again")


@dataclass(frozen=True, eq=False)
class Sample:
    """One target.

    Attributes:
        sample_id: index of the text in its source.
        text: the text, or, where it was truncated, what the kept tokens decode to.
        tokens: int32 [n], BOS included where one is added.
    """

    sample_id: int
    text: str
    tokens: np.ndarray


def load_tokenizer(path_or_hub_name: str | Path) -> Tokenizer:
    """Reads tokenizer.json, and tokenizer_config.json where there is one, from a directory or from the Hub.

    Raises:
        UserError: there is no such directory or Hub model, it has no tokenizer.json, or a file is malformed.
    """
    name = str(path_or_hub_name)
    file = _find(name, "tokenizer.json")
    if file is None:
        raise UserError(
            f"{name}: no tokenizer.json; slow and pickled tokenizers are not supported, "
            "save it once with transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    try:
        documents.require_file(file)
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        with _quiet():
            backend = Backend.from_file(str(file))
    except BaseException as error:  # the Rust side raises bare Exception, and for a panic not even that
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UserError(
            f"{file}: not a tokenizer ({_first_line(error)}); download or save tokenizer.json again"
        ) from error
    config_file = _find(name, "tokenizer_config.json")
    config = _read_config(config_file) if config_file else {}
    return Tokenizer(
        backend,
        name=name,
        bos_token=_token_text(config, "bos_token"),
        eos_token=_token_text(config, "eos_token"),
        digest=hashlib.sha256(file.read_bytes()).hexdigest()[:16],
    )


def tokenize(
    texts: Iterable[Text],
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None,
    bos: bool | None,
    max_positions: int,
    num_memory: int = 1,
) -> list[Sample]:
    """Targets of the texts, in tokens.

    Args:
        texts: what `load_texts` returned.
        tokenizer: what `load_tokenizer` returned.
        max_tokens: keep the first so many tokens of each text, BOS included; None keeps all.
        bos: None as the tokenizer's default, True and False force it.
        max_positions: the positions that the model has.
        num_memory: K, the memory embeddings; with a target of n tokens, K + n - 1 positions are in use.

    Raises:
        UserError: a text is shorter than two tokens, or longer than the model's positions; or see
            `Tokenizer.encode`.
    """
    if max_tokens is not None and max_tokens < 2:
        raise UserError(f"--max_tokens={max_tokens}: a target has at least 2 tokens")
    # A book of which a page is wanted need not be tokenised to its end: every token takes memory.
    enough = max(_CHARACTERS, _CHARACTERS_A_TOKEN * (max_tokens or max_positions))
    samples = []
    for text in texts:
        ids = tokenizer.encode(text.text[:enough], bos=bos)
        kept = ids[:max_tokens]
        whole = len(text.text) <= enough and len(kept) == len(ids)
        if max(kept, default=0) > _MOST_ID:
            raise UserError(
                f"sample {text.sample_id}: its token {max(kept)} is no id of a model; mend tokenizer.json"
            )
        if len(kept) < 2:
            raise UserError(
                f"sample {text.sample_id}: {text.text[:40]!r} has fewer than 2 tokens ({len(kept)}); "
                "give a longer text"
            )
        if num_memory + len(kept) - 1 > max_positions:
            more = "at least " if len(text.text) > enough else ""
            raise UserError(
                f"sample {text.sample_id}: {more}{len(kept)} tokens after {num_memory} memory embeddings "
                f"take {num_memory + len(kept) - 1} positions, the model has {max_positions}; "
                f"cut the texts with --max_tokens={max_positions - num_memory + 1}"
            )
        content = text.text if whole else tokenizer.decode(kept)
        samples.append(Sample(text.sample_id, content, np.asarray(kept, dtype=np.int32)))
    return samples


def _find(name: str, filename: str) -> Path | None:
    """One file of a model, by way of the cache for a Hub name; None where the model has no such file."""
    directory = os.path.expanduser(name)
    if os.path.isdir(directory):
        file = Path(directory, filename)
        return file if file.is_file() else None
    if os.path.exists(directory):
        raise UserError(f"{name}: not a directory; give the directory that holds tokenizer.json")
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise UserError(f"{name}: no such model directory; check the path")

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, filename))
    except LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError: offline and not in the cache
        raise UserError(
            f"{name}: neither a directory nor in the Hub's cache, and the Hub is out of reach; "
            "check the path or the network"
        ) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # whatever else the Hub client meets: unknown or gated repository, proxy, disk
        raise UserError(
            f"{name}: neither a directory nor a readable Hub model ({_first_line(error)}); check the name"
        ) from error


def _read_config(file: Path) -> dict[str, Any]:
    try:
        return documents.read_object(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); download or save it again") from error


def _token_text(config: dict[str, Any], name: str) -> str | None:
    """A token's text from either form of tokenizer_config.json: a string, or a dict with `content`."""
    token = config.get(name)
    if isinstance(token, dict):
        token = token.get("content")
    if not isinstance(token, str) or re.search("[\ud800-\udfff]", token):
        return None
    return token


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tokenizer's Rust side from writing a stack trace to stderr before Python has its say."""
    with _STDERR:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def pad_tokens(targets: Sequence[np.ndarray], rows: int, length: int) -> np.ndarray:
    """Targets, each cut or zero-padded to `length`, as int32 [rows, length]; rows beyond them are zeros."""
    tokens = np.zeros((rows, length), np.int32)
    for row, target in zip(tokens, targets, strict=False):
        row[: len(target)] = target[:length]
    return tokens
