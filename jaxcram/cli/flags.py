"""Flags generated from the fields of a frozen dataclass, so that every flag is read.

A program has a dataclass, whose fields may be dataclasses themselves, and help texts of all fields by topic.
Each leaf becomes a flag with the field's name and default; the parsed flags become an instance of the
dataclass. One field may be `positional`: its value may also be given without the flag's name. This is the
only module that imports absl. It uses its own flag registry, so a program has its own flags and `--flagfile`,
but none that libraries register.
"""

import dataclasses
import os
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from absl import flags

from jaxcram import documents
from jaxcram.errors import UserError

WIDTH = 100
_INDENT = 28
_UNBROKEN = "\N{NO-BREAK SPACE}"
T = TypeVar("T")
_MOST = 2**31 - 1
_MOST_FILES = 10  # depth of nested flagfiles
_NUMBERS = {int: "a whole number", float: "a number"}


class Doc(NamedTuple):
    """The help of one flag.

    Attributes:
        text: one or two sentences without the final full stop.
        unit: of the value; "" if it is a name, a path or a choice.
        unset: the behaviour if the default is None.
    """

    text: str
    unit: str = ""
    unset: str = ""


Topics = Mapping[str, Mapping[str, Doc]]


class _Leaf(NamedTuple):
    name: str
    kind: type
    many: bool
    default: Any
    positional: bool = False

    @property
    def written(self) -> str:
        """A positional argument in usage lines: RUN, RUNS..., or [RUN] if it may be left out."""
        written = self.name.upper() + ("..." if self.many else "")
        return written if self.default is dataclasses.MISSING else f"[{written}]"


def positional(default: Any = dataclasses.MISSING) -> Any:
    """A field that is given as an argument without a name (`show RUN`), or as a flag.

    A tuple takes all such arguments; as a flag, comma-separated values.
    """
    return dataclasses.field(default=default, metadata={"positional": True})


def without(default: Any, *names: str) -> Any:
    """A field that is a frozen dataclass with flags for its fields, but for those of some names."""
    return dataclasses.field(default_factory=lambda: default, metadata={"without": names})


def parse(command: type[T], topics: Topics, argv: Sequence[str]) -> T:
    """Parses the arguments of a program.

    Args:
        command: the dataclass of the program; fields without a default are required flags.
        topics: topic -> field -> help; must name exactly the leaves of `command`.
        argv: the arguments after the program's name.

    Returns:
        An instance of `command`.

    Raises:
        UserError: an unknown flag, a malformed value, a missing flag, or an unexpected argument.
    """
    registry = _registry(command, topics)
    try:
        leftover: Sequence[str] = registry(["", *_with_files(argv)])[1:]
    except RecursionError:  # of absl's search for similar names
        raise UserError("an unknown flag has a name of hundreds of characters; see --help") from None
    except (flags.Error, ValueError) as error:
        raise UserError(" ".join(str(error).split()).removesuffix(" ?")) from error
    values = {leaf.name: registry[leaf.name].value for leaf in _leaves(command)}
    for leaf in _leaves(command):
        if leaf.positional and leftover:
            values[leaf.name], leftover = _placed(leaf, bool(registry[leaf.name].present), leftover)
        if leaf.default is dataclasses.MISSING and values[leaf.name] is None:
            if leaf.positional:
                raise UserError(
                    f"{leaf.written} is required; write it after the program's name, or --{leaf.name}=VALUE"
                )
            raise UserError(f"--{leaf.name} is required; write --{leaf.name}=VALUE")
    if leftover:
        raise UserError(f"unexpected argument {leftover[0]!r}; write flags as --name=value")
    return _build(command, values)


def usage(command: type) -> str:
    """The arguments in a program's usage line, such as `RUN --flags`."""
    return " ".join([*(leaf.written for leaf in _leaves(command) if leaf.positional), "--flags"])


def _placed(leaf: _Leaf, flag_is_given: bool, arguments: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """The value of a positional leaf from the arguments without a name, and the remaining arguments."""
    if flag_is_given:
        raise UserError(
            f"{leaf.name} is given twice, as {arguments[0]!r} and as --{leaf.name}; remove one of them"
        )
    if leaf.many:
        return tuple(map(leaf.kind, arguments)), []
    return leaf.kind(arguments[0]), arguments[1:]


def _with_files(arguments: Iterable[str], depth: int = 0) -> Iterator[str]:
    """The arguments, each --flagfile replaced by its flags; absl's own version would also open devices."""
    left = iter(arguments)
    for argument in left:
        name, equals, path = argument.partition("=")
        if argument == "--":
            yield from (argument, *left)
        elif name not in ("--flagfile", "-flagfile"):
            yield argument
        elif depth == _MOST_FILES:
            raise UserError(
                f"--flagfile={path}: flagfiles are nested {depth} deep; put the flags into one file"
            )
        else:
            lines = map(str.strip, _read(path if equals else next(left, "")))
            flags_of_file = (line for line in lines if line and not line.startswith(("#", "//")))
            yield from _with_files(flags_of_file, depth + 1)


def _read(flagfile: str) -> list[str]:
    path = os.path.expanduser(flagfile)
    try:
        documents.require_file(path)
        if os.path.getsize(path) > documents.MOST_BYTES:
            raise ValueError("too large")
        with open(path, encoding="utf-8") as file:
            return file.readlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read the --flagfile {flagfile} ({why}); check its path") from error


def explain(command: type, topics: Topics) -> str:
    """The help of every flag by topic, with its unit and default."""
    leaves = {leaf.name: leaf for leaf in _leaves(command)}
    lines = []
    for topic, docs in topics.items():
        lines += ["", f"{topic}:"]
        for name, doc in docs.items():
            lines += _entry(leaves[name], doc)
    lines += ["", "From a file:"]
    lines += _columns(
        "--flagfile=PATH", "Read flags from a file, one --name=value per line; # starts a comment"
    )
    return "\n".join(lines)


def _entry(leaf: _Leaf, doc: Doc) -> list[str]:
    if leaf.default is dataclasses.MISSING:
        default = "required"
    elif leaf.default in (None, ""):
        default = f"default: {doc.unset}"
    else:
        default = f"default: {_written(leaf.default)}"
    notes = "; ".join(filter(None, [doc.unit, default])).replace(" ", _UNBROKEN)
    name = f"{leaf.written} or " if leaf.positional else ""
    name += f"--{'[no]' if leaf.kind is bool else ''}{leaf.name}"
    return _columns(name, f"{doc.text} [{notes}]")


def _columns(left: str, right: str) -> list[str]:
    wrapped = textwrap.wrap(right, WIDTH - _INDENT, break_on_hyphens=False)
    wrapped = [line.replace(_UNBROKEN, " ") for line in wrapped]
    return [f"  {left:<{_INDENT - 3}} {wrapped[0]}", *(" " * _INDENT + line for line in wrapped[1:])]


def _written(value: Any) -> str:
    """A default, as it would be typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _leaves(command: type, default: Any = None, left_out: Sequence[str] = ()) -> Iterator[_Leaf]:
    """The fields that are not dataclasses, depth first; `default` is an instance with their defaults."""
    hints = typing.get_type_hints(command)
    for field in dataclasses.fields(command):
        kind, many = _kind(hints[field.name])
        value = _default(field, default)
        if dataclasses.is_dataclass(kind):
            yield from _leaves(kind, value, field.metadata.get("without", left_out))
        elif field.name not in left_out:
            yield _Leaf(field.name, kind, many, value, "positional" in field.metadata)


def _default(field: dataclasses.Field, default: Any) -> Any:
    """The default of a field, in an instance of its dataclass if there is one."""
    if default is not None:
        return getattr(default, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _kind(hint: Any) -> tuple[type, bool]:
    """(type of a value, whether it is a tuple) of a hint like int, int | None or tuple[int, ...]."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _build(command: type, values: Mapping[str, Any], default: Any = None) -> Any:
    hints, built = typing.get_type_hints(command), {}
    for field in dataclasses.fields(command):
        (kind, _), value = _kind(hints[field.name]), _default(field, default)
        built[field.name] = (
            _build(kind, values, value) if dataclasses.is_dataclass(kind) else values.get(field.name, value)
        )
    return command(**built)


def _registry(command: type, topics: Topics) -> flags.FlagValues:
    leaves = list(_leaves(command))
    names = [leaf.name for leaf in leaves]
    explained = [name for docs in topics.values() for name in docs]
    if sorted(names) != sorted(explained):
        raise ValueError(
            f"{command.__name__}: fields and documented flags differ by {set(names) ^ set(explained)}"
        )
    registry = flags.FlagValues()
    registry.set_gnu_getopt(True)  # read flags after a positional argument too
    for leaf in leaves:
        default = None if leaf.default is dataclasses.MISSING else leaf.default
        if leaf.kind is bool:
            flag = flags.BooleanFlag(leaf.name, default, "")
            flag.parser = _YesOrNo()
            flags.DEFINE_flag(flag, registry)
        else:
            flags.DEFINE(_Values(leaf.kind, leaf.many), leaf.name, default, "", registry)
    return registry


class _YesOrNo(flags.BooleanParser):
    def parse(self, argument: Any) -> bool:
        try:
            return super().parse(argument)
        except ValueError:
            raise ValueError(f"{argument!r} is neither true nor false") from None


class _Values(flags.ArgumentParser):
    """Parses a value, or several comma-separated ones, without removing spaces."""

    def __init__(self, kind: type, many: bool):
        super().__init__()
        self._kind = kind
        self._many = many

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):  # a default
            return argument
        if self._many:
            if argument == "" and self._kind is str:
                return ()
            return tuple(map(self._one, argument.split(",")))
        return self._one(argument)

    def _one(self, piece: str) -> Any:
        try:
            value = self._kind(piece)
        except ValueError:
            kinds = [name for kind, name in _NUMBERS.items() if issubclass(self._kind, kind)]
            raise ValueError(f"{piece!r} is not {kinds[0]}") from None
        if isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(f"{piece!r} is beyond {_MOST}, the largest integer supported")
        return value
