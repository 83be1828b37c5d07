"""Resolves names given by the user: local paths, or names on the Hugging Face Hub.

A name that looks like a path is never requested from the Hub, so that a mistyped path is refused at once.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from jaxcram.errors import UserError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
)
PATIENCE_S = 10  # timeout for the first answer of the Hub
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OWNER_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def local(setting: str, name: str | os.PathLike[str]) -> Path | None:
    """The file or directory of this name, with `~` expanded; None if it does not exist.

    Raises:
        UserError: it does not exist, and the name is a URI; the message names it as `setting`.
    """
    path = os.path.expanduser(os.fspath(name))  # Path.expanduser raises for unknown users
    if path and os.path.exists(path):  # Path.exists raises for names that are too long
        return Path(path)
    refuse_uri(setting, path)
    return None


def refuse_uri(setting: str, name: str) -> None:
    """Raises UserError if a name begins with scheme://."""
    if match := _URI.match(name):
        scheme = match[1].lower()
        what = "give the path alone" if scheme == "file" else "use a local disk, and give a path there"
        raise UserError(f"{setting}={name[:200]}: {scheme}:// is not supported; {what}")


def is_path(name: str) -> bool:
    """Whether a name that does not exist can only be a path; owner/name may be a path or a Hub name."""
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name


def model_directory(name: str | os.PathLike[str], files: Sequence[str]) -> Path:
    """The directory of a model; for a Hub name, `files` (patterns) are downloaded or read from the cache.

    Raises:
        UserError: there is no such directory or model, or the Hub does not answer.
    """
    path, name = local("model", name), os.fspath(name)
    if path is not None and path.is_dir():
        return path
    if path is not None or is_path(name) or not _OWNER_NAME.fullmatch(name):
        raise UserError(f"model {name!r} is neither a directory nor a Hub name (owner/name); check its path")
    import huggingface_hub  # imported here, since most runs do not need it

    try:
        return Path(
            huggingface_hub.snapshot_download(name, allow_patterns=list(files), etag_timeout=PATIENCE_S)
        )
    except (OSError, ValueError) as error:  # the errors of huggingface_hub derive from these
        reason = " ".join(str(error).split())
        raise UserError(
            f"model {name!r} is not a directory, and the Hub did not provide it: {reason} "
            "(check the name and the network, or give the path of a downloaded directory)"
        ) from error


def require_data_set(setting: str, name: str) -> None:
    """Checks that the Hub has a data set; without this, the `datasets` library would retry for 30 s.

    Messages name it as `setting`.

    Raises:
        UserError: the Hub does not answer within `PATIENCE_S` seconds, or has no such data set.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return  # `datasets` reads its cache
    try:
        HfApi().dataset_info(name, timeout=PATIENCE_S)
    except Exception as error:  # network errors have types of the HTTP library, which differs by release
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, HfHubHTTPError | ValueError):
            raise UserError(
                f"{setting}={name}: no such file or directory, nor a data set of the Hub ({reason}); "
                "check the name"
            ) from error
        raise UserError(
            f"{setting}={name}: no such file or directory, and the Hub did not answer within {PATIENCE_S} s "
            f"({reason}); check the path or the network (HF_HUB_OFFLINE=1 reads a data set from the cache)"
        ) from error
