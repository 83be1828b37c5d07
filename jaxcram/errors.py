"""The mistakes of whoever asked, what stops a run from outside, and text that is safe on a terminal."""

import re
from pathlib import Path

_LONGEST, _HEAD = 2000, 1400  # characters of an error, and those of its beginning where it must be cut
_CUT = " [...] "
# Control characters, half surrogate pairs, ends of lines, and what turns the direction of writing.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class UserError(Exception):
    """Bad input: `str(error)` is one line that names the thing, its value and the remedy.

    Command lines print that line and exit with code 2; nobody sees a stack trace for it. Names and values
    come from files that others wrote: line ends, escape codes and the like are spelt out, and what is too
    long loses its middle.
    """

    exit_code = 2
    agreed = False  # of several processes: whether all of them end with it, so that one tells it for all

    def __init__(self, message: str) -> None:
        super().__init__(_cut(printable(_cut(message), keep="")))


class StoppedError(UserError):
    """Something outside stopped the work, as a full disk does; once that is mended, the same command goes on.

    Command lines exit with code 75, the "temporary failure" of sysexits.h.
    """

    exit_code = 75


class Interrupted(KeyboardInterrupt):
    """A signal ended a run between two chunks, and everything that it had done is kept.

    Attributes:
        directory: of the run.
        exit_code: 128 + the number of the signal, as a shell would say it.
    """

    def __init__(self, directory: Path, signal_number: int) -> None:
        super().__init__(f"{directory}: signal {signal_number}; the run is kept")
        self.directory = directory
        self.exit_code = 128 + signal_number


def printable(text: str, keep: str = "\n\t") -> str:
    """`text` with escape sequences for the characters that a terminal obeys, or that no stream takes.

    Those of `keep` stay.
    """
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text
    )


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return text[:_HEAD] + _CUT + text[len(text) - (_LONGEST - _HEAD - len(_CUT)) :]
