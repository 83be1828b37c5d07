"""What a name from outside means: a path of this machine, or a name on the Hugging Face Hub.

What looks like a path is never asked for on the Hub, so that a mistyped path is refused at once.
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
PATIENCE_S = 10  # for the first answer of the Hub
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OWNER_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def local(setting: str, name: str | os.PathLike[str]) -> Path | None:
    """The file or directory of this name, with `~` expanded; None where there is none.

    Raises:
        UserError: there is none, and the name is a URI; `setting` is what the message calls it.
    """
    path = os.path.expanduser(os.fspath(name))  # not Path's, which raises errors at users that do not exist
    if path and os.path.exists(path):  # not Path's, which raises errors at names that are too long
        return Path(path)
    refuse_uri(setting, path)
    return None


def refuse_uri(setting: str, name: str) -> None:
    """Raises UserError where a name that is no path of this machine says scheme://."""
    if match := _URI.match(name):
        scheme = match[1].lower()
        what = "give the path alone" if scheme == "file" else "use a local disk, and give a path there"
        raise UserError(f"{setting}={name[:200]}: {scheme}:// is not supported; {what}")


def is_path(name: str) -> bool:
    """Whether a name that does not exist can only be meant as a path; owner/name may be either."""
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name


def model_directory(name: str | os.PathLike[str], files: Sequence[str]) -> Path:
    """The directory of a model; of a Hub name, `files` (patterns) are downloaded or found in the cache.

    Raises:
        UserError: there is no such directory and no such model, or the Hub does not answer.
    """
    path, name = local("model", name), os.fspath(name)
    if path is not None and path.is_dir():
        return path
    if path is not None or is_path(name) or not _OWNER_NAME.fullmatch(name):
        raise UserError(f"model {name!r} is no directory and no Hub name (owner/name); check its path")
    import huggingface_hub  # only here: most runs never need the network

    try:
        return Path(
            huggingface_hub.snapshot_download(name, allow_patterns=list(files), etag_timeout=PATIENCE_S)
        )
    except (OSError, ValueError) as error:  # what huggingface_hub raises derives from these
        reason = " ".join(str(error).split())
        raise UserError(
            f"model {name!r} is not a directory, and the Hub did not give it: {reason} "
            "(check the name and the network, or give the path of a downloaded directory)"
        ) from error


def require_data_set(name: str) -> None:
    """Asks the Hub once for a data set: the `datasets` library would try for half a minute.

    Raises:
        UserError: the Hub does not answer within `PATIENCE_S` seconds, or has no such data set.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return  # `datasets` looks into its cache
    try:
        HfApi().dataset_info(name, timeout=PATIENCE_S)
    except Exception as error:  # of the network: of the HTTP library, which changes between releases
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, HfHubHTTPError | ValueError):
            raise UserError(
                f"texts={name}: no such file or directory, and no data set of the Hub ({reason}); "
                "check the name"
            ) from error
        raise UserError(
            f"texts={name}: no such file or directory, and the Hub did not answer within {PATIENCE_S} s "
            f"({reason}); check the path or the network (HF_HUB_OFFLINE=1 reads a data set from the cache)"
        ) from error
