"""The tokenizer: text to token ids and back.

It is loaded directly from tokenizer.json, since importing transformers would slow down every start.
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
_MOST_BYTES = 1 << 26  # of tokenizer.json; with large vocabularies it has 35 MB
_PATIENCE_S = 20.0  # timeout for one text; a valid tokenizer takes a hundredth of it

_STDERR = threading.Lock()


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        bos_id: id of the token that begins a text; None if the tokenizer has none.
        eos_id: id of the token that ends a text; None if the tokenizer has none.
        unk_id: id of the unknown token; None if the tokenizer has none.
        vocab_size: number of tokens, including added ones; a model's embedding may have more rows.
        digest: of tokenizer.json; "" if it was not loaded from one.
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
        # tokenizer.json may have settings for padding and truncation from training; targets need neither.
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
            text: any text; special tokens written out in it become their ids.
            bos: True adds BOS, False does not. None applies the post-processor of tokenizer.json, which is
                the default of transformers' AutoTokenizer (5.x ignores `add_bos_token` of
                tokenizer_config.json if there is a tokenizer.json).

        Raises:
            UserError: `bos` is True and the tokenizer has no BOS; the text is not valid Unicode; or
                tokenization fails or does not end, because tokenizer.json is broken.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{text[:40]!r}: unpaired surrogate (character {error.start}); correct it"
            ) from error
        ids = self._call(lambda: self._backend.encode_batch([text], add_special_tokens=bos is None)[0].ids)
        if not bos:
            return ids
        if self.bos_id is None:
            raise UserError(f"{self._name}: the tokenizer has no BOS token; omit bos")
        return [self.bos_id, *ids]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of several texts of valid Unicode, on all cores.

        Raises:
            UserError: tokenization fails or does not end, because tokenizer.json is broken.
        """
        return self._call(lambda: [encoding.ids for encoding in self._backend.encode_batch(list(texts))])

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of token ids; bytes that do not form a character become U+FFFD."""
        numbers = [int(token) for token in ids]
        return self._call(lambda: self._backend.decode_batch([numbers], skip_special_tokens=skip_special)[0])

    def content(self, ids: Sequence[int]) -> list[int]:
        """Token ids without BOS at the beginning and EOS at the end."""
        first = 1 if len(ids) and ids[0] == self.bos_id else 0
        last = len(ids) - 1 if len(ids) > first and ids[-1] == self.eos_id else len(ids)
        return list(ids[first:last])

    def restores(self, ids: Sequence[int], text: str, cut: bool = False) -> bool:
        """Whether token ids decode to the text, or to its beginning if they are `cut`.

        They do not if characters have no token, if special tokens are written in the text, or if
        tokenizer.json normalises texts.
        """
        if not cut:
            return self.decode(ids) == text
        # A character that was cut becomes U+FFFD.
        decoded = (self.decode(self.content(ids), skip) for skip in (True, False))
        return all(text.startswith(part.rstrip("\ufffd")) for part in decoded)

    def _call(self, function: Callable[[], T]) -> T:
        """The result of a call of the backend, with a timeout.

        It runs in a thread, since a regular expression of tokenizer.json may never end; use the backend's
        batch functions, which release the GIL.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:  # a Rust panic is not an Exception
                errors.append(error)

        with _quiet():
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            thread.join(_PATIENCE_S)
        if results:
            return results[0]
        why = first_line(errors[0]) if errors else f"it took more than {_PATIENCE_S:g} s"
        raise UserError(f"{self._name}: its tokenizer.json does not work ({why}); download or save it again")


def load_tokenizer(path_or_hub_name: str | Path) -> Tokenizer:
    """Loads a tokenizer from a directory or from the Hub.

    BOS and EOS are resolved as in transformers: from special_tokens_map.json if tokenizer_config.json has no
    `added_tokens_decoder`, else from tokenizer_config.json; if neither names the token, by the id in
    generation_config.json or config.json.

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
            backend = Backend.from_buffer(content)  # from_file requires a Unicode path
    except BaseException as error:  # Rust errors are bare Exceptions, and panics are BaseExceptions
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
    """The token that begins ("bos") or ends ("eos") a text; None if no file names one."""
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
    """The id of the unknown token in tokenizer.json, or None."""
    if isinstance(backend.model, models.Unigram):  # does not expose it as an attribute
        return json.loads(backend.to_str())["model"].get("unk_id")
    token = getattr(backend.model, "unk_token", None)
    return None if token is None else backend.token_to_id(token)


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file does not exist."""
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
    """Suppresses stderr, to which the tokenizer's Rust code writes a stack trace when it panics."""
    with _STDERR:
        stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(null)
