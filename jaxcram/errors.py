"""The mistakes of whoever asked, what stops a run from outside, and text that is safe on a terminal."""

from pathlib import Path

_LONGEST, _HEAD = 2000, 1400  # characters of an error, and those of its beginning where it must be cut
_CUT = " [...] "


class UserError(Exception):
    """Bad input: `str(error)` is one line that names the thing, its value and the remedy.

    Command lines print that line and exit with code 2; nobody sees a stack trace for it. Names and values
    come from files that others wrote: line ends, escape codes and the like are spelt out, and what is too
    long loses its middle.
    """

    exit_code = 2

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
    """`text` with every character that a terminal would not show, or would obey, as its escape sequence.

    Half surrogate pairs, which no stream takes, are among them; the characters of `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode()
        for character in text
    )


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return text[:_HEAD] + _CUT + text[len(text) - (_LONGEST - _HEAD - len(_CUT)) :]
