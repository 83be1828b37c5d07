"""Errors that are shown as one line, and text that is safe to print on a terminal."""

import re
from pathlib import Path

_LONGEST, _HEAD = 2000, 1400  # most characters of an error; those kept of its beginning when it is cut
_CUT = " [...] "
# Control characters, unpaired surrogates, line separators, and marks of the writing direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class UserError(Exception):
    """Bad input: `str(error)` is one line that names the thing, its value and the remedy.

    Command lines print that line, without a stack trace, and exit with code 2. Names and values may come from
    untrusted files: line ends and control characters are escaped, and long messages lose their middle.

    Attributes:
        exit_code: of the command line.
        agreed: whether the error was raised in all of several processes; process 0 then reports it.
    """

    exit_code = 2
    agreed = False

    def __init__(self, message: str) -> None:
        super().__init__(_cut(printable(_cut(message), keep="")))


class StoppedError(UserError):
    """An external cause, such as a full disk, stopped the work; once it is fixed, the same command resumes.

    Command lines exit with code 75, EX_TEMPFAIL ("temporary failure") of sysexits.h.
    """

    exit_code = 75


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run between two chunks, and all its results so far are saved.

    Attributes:
        directory: of the run.
        exit_code: 128 + the signal number, as in shells.
    """

    def __init__(self, directory: Path, signal_number: int) -> None:
        super().__init__(f"{directory}: signal {signal_number}; the run is kept")
        self.directory = directory
        self.exit_code = 128 + signal_number


def printable(text: str, keep: str = "\n\t") -> str:
    """`text` with escape sequences for control and unencodable characters, except those in `keep`."""
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text
    )


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return text[:_HEAD] + _CUT + text[len(text) - (_LONGEST - _HEAD - len(_CUT)) :]
