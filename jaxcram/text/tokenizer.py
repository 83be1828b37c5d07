"""Text to token ids and back.

The tokenizer is read straight from tokenizer.json, so that start-up does not pay for transformers.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer as Backend
from tokenizers import models

from jaxcram import documents, hub
from jaxcram.errors import UserError
from jaxcram.text.characters import first_line

T = TypeVar("T")
_MOST_BYTES = 1 << 26  # of tokenizer.json; those of large vocabularies have 35 MB
_PATIENCE_S = 20.0  # for any text; a good tokenizer takes a hundredth of that

_STDERR = threading.Lock()


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        bos_id: id of the token that begins a text, None where the tokenizer names none.
        eos_id: id of the token that ends a text, None where the tokenizer names none.
        unk_id: id that stands for whatever has no token, None where there is no such id.
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
    ) -> None:
        self.digest = digest
        # Padding and truncation left in tokenizer.json are habits of training; no target is changed by them.
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._name = name
        self.bos_id: int | None = backend.token_to_id(bos_token) if bos_token else None
        self.eos_id: int | None = backend.token_to_id(eos_token) if eos_token else None
        self.unk_id: int | None = _unknown(backend)
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
            raise UserError(f"{self._name}: the tokenizer names no BOS token; leave out bos")
        return [self.bos_id, *ids]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of token ids; bytes that do not form a character come out as U+FFFD."""
        numbers = [int(token) for token in ids]
        return self._asked(lambda: self._backend.decode_batch([numbers], skip_special_tokens=skip_special)[0])

    def content(self, ids: Sequence[int]) -> list[int]:
        """Token ids without BOS and EOS around them."""
        first = 1 if len(ids) and ids[0] == self.bos_id else 0
        last = len(ids) - 1 if len(ids) > first and ids[-1] == self.eos_id else len(ids)
        return list(ids[first:last])

    def restores(self, ids: Sequence[int], text: str, cut: bool = False) -> bool:
        """Whether token ids decode to a text, or to a beginning of it where they are `cut`.

        They do not where characters have no token, where special tokens are spelt in the text, and where
        tokenizer.json normalises texts.
        """
        if not cut:
            return self.decode(ids) == text
        # A character that was cut in two comes out as U+FFFD.
        decoded = (self.decode(self.content(ids), skip) for skip in (True, False))
        return all(text.startswith(part.rstrip("\ufffd")) for part in decoded)

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
        why = first_line(errors[0]) if errors else f"it took more than {_PATIENCE_S:g} s"
        raise UserError(f"{self._name}: its tokenizer.json does not work ({why}); download or save it again")


def load_tokenizer(path_or_hub_name: str | Path) -> Tokenizer:
    """Reads tokenizer.json, and what names BOS and EOS, from a directory or from the Hub.

    Special tokens are named as transformers resolves them: by special_tokens_map.json, where
    tokenizer_config.json has no `added_tokens_decoder`, else by tokenizer_config.json. Where neither has the
    field, it is the id of generation_config.json or config.json.

    Raises:
        UserError: there is no such directory or Hub model, it has no tokenizer.json, or a file is malformed.
    """
    directory = hub.model_directory(path_or_hub_name, hub.TOKENIZER_FILES)
    name, file = os.fspath(path_or_hub_name), directory / "tokenizer.json"
    if not file.exists():
        raise UserError(
            f"{name}: no tokenizer.json; slow and pickled tokenizers are not supported, "
            "save it once with transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    try:
        documents.require_file(file)
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        content = file.read_bytes()
        with _quiet():
            backend = Backend.from_buffer(content)  # not by its path, which has to be Unicode
    except BaseException as error:  # the Rust side raises bare Exception, and for a panic not even that
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UserError(
            f"{file}: not a tokenizer ({first_line(error)}); download or save tokenizer.json again"
        ) from error
    return Tokenizer(
        backend,
        name=name,
        bos_token=_special("bos", backend, directory),
        eos_token=_special("eos", backend, directory),
        digest=hashlib.sha256(content).hexdigest()[:16],
    )


def _special(kind: str, backend: Backend, directory: Path) -> str | None:
    """The token that begins ("bos") or ends ("eos") a text; None where no file names one."""
    names = _read(directory / "tokenizer_config.json")
    if "added_tokens_decoder" not in names:
        names |= _read(directory / "special_tokens_map.json")
    if (field := f"{kind}_token") in names:
        token = names[field]
        if isinstance(token, dict):
            token = token.get("content")
        named = isinstance(token, str) and not re.search("[\ud800-\udfff]", token)
        return token if named else None
    for file in ("generation_config.json", "config.json"):
        ids = _read(directory / file).get(f"{kind}_token_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if type(first) is int and 0 <= first < 2**32 and (token := backend.id_to_token(first)) is not None:
            return token
    return None


def _unknown(backend: Backend) -> int | None:
    """The id that the model of tokenizer.json gives to what it has no token for."""
    if isinstance(backend.model, models.Unigram):  # which tells it nowhere else
        return json.loads(backend.to_str())["model"].get("unk_id")
    token = getattr(backend.model, "unk_token", None)
    return None if token is None else backend.token_to_id(token)


def _read(file: Path) -> dict[str, Any]:
    """The JSON object of a file, empty where there is no such file."""
    if not os.path.lexists(file):
        return {}
    try:
        return documents.read_object(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); download or save it again") from error


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
