"""Flags come from a dataclass's fields and become that dataclass again; mistakes are told in one line."""

import dataclasses

import pytest

from jaxcram.cli import flags
from jaxcram.cli.flags import Doc
from jaxcram.errors import UserError


@dataclasses.dataclass(frozen=True)
class Procedure:
    rates: tuple[float, ...] = (0.01, 1.0)
    steps: int = 10_000
    remat: bool = False


@dataclasses.dataclass(frozen=True)
class Command:
    run: str
    bos: bool | None = None
    limit: int | None = None
    procedure: Procedure = Procedure(steps=7)


TOPICS = {
    "What": {"run": Doc("Directory of the run"), "bos": Doc("Begin with BOS", unset="as the tokenizer says")},
    "How": {
        "rates": Doc("Learning rates", "per step"),
        "steps": Doc("A cap" + " that is explained at length" * 4, "steps"),
        "remat": Doc("Compute again"),
        "limit": Doc("Texts", "texts", "all"),
    },
}


def parse(*arguments: str) -> Command:
    return flags.parse(Command, TOPICS, arguments)


def test_defaults_come_from_the_dataclass_and_nested_instances():
    assert parse("--run=r") == Command("r")
    assert parse("--run=r").procedure.steps == 7


def test_every_flag_reaches_its_field():
    read = parse("--run", "r", "--nobos", "--limit=3", "--rates=0.5,1e-2", "--steps=9", "--remat")
    assert read == Command("r", False, 3, Procedure((0.5, 0.01), 9, True))


def test_one_value_is_a_tuple_of_one():
    assert parse("--run=r", "--rates=0.5").procedure.rates == (0.5,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rates=0.1,fast"], "flag --rates=0.1,fast: 'fast' is not a number"),
        (["--rates=0.1,"], "flag --rates=0.1,: '' is not a number"),
        (["--steps=1.5"], "flag --steps=1.5: '1.5' is not a whole number"),
        (["--remat=maybe"], "flag --remat=maybe: 'maybe' is neither true nor false"),
        (["--rate=1"], "Unknown command line flag 'rate'. Did you mean: rates"),
        (["--zzz"], "Unknown command line flag 'zzz'"),
        (["--steps"], "Missing value for flag --steps"),
        (["--run=r", "more"], "unexpected argument 'more'; write flags as --name=value"),
        (["more", "--run=r"], "unexpected argument 'more'; write flags as --name=value"),
        (["--steps=3"], "--run is required; write --run=VALUE"),
        (["--flagfile=none"], "cannot read the --flagfile none (No such file or directory); check its path"),
    ],
)
def test_a_user_error_is_one_line(arguments, message):
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert str(caught.value) == message


def test_a_flagfile_is_read_at_its_position_and_later_flags_win(tmp_path):
    file = tmp_path / "some.flags"
    file.write_text("# a comment\n\n--run=from file\n--steps=5\n")
    read = parse("--steps=1", f"--flagfile={file}", "--limit=2")
    assert read == Command("from file", limit=2, procedure=Procedure(steps=5))
    assert parse(f"--flagfile={file}", "--steps=1").procedure.steps == 1


@pytest.mark.parametrize("broken", [{"What": {"run": Doc("r")}}, {**TOPICS, "More": {"nothing": Doc("n")}}])
def test_fields_and_documented_flags_must_match(broken):
    with pytest.raises(ValueError, match="Command: fields and documented flags differ"):
        flags.parse(Command, broken, ["--run=r"])


def test_the_help_has_unit_and_default_within_100_columns():
    assert flags.explain(Command, TOPICS).splitlines() == [
        "",
        "What:",
        "  --run                     Directory of the run [required]",
        "  --[no]bos                 Begin with BOS [default: as the tokenizer says]",
        "",
        "How:",
        "  --rates                   Learning rates [per step; default: 0.01,1]",
        "  --steps                   A cap that is explained at length that is explained at length that is",
        "                            explained at length that is explained at length [steps; default: 7]",
        "  --[no]remat               Compute again [default: no]",
        "  --limit                   Texts [texts; default: all]",
        "",
        "From a file:",
        "  --flagfile=PATH           Read flags from a file, one --name=value per line; # starts a comment",
    ]


@dataclasses.dataclass(frozen=True)
class OfRun:
    run: str = flags.positional()
    steps: int = 3


@dataclasses.dataclass(frozen=True)
class OfRuns:
    runs: tuple[str, ...] = flags.positional()
    steps: int = 3


@pytest.mark.parametrize(
    "arguments", [["a,b"], ["--run", "a,b"], ["--run=a,b"], ["--steps=3", "a,b"], ["a,b", "--steps=3"]]
)
def test_a_positional_field_is_an_argument_or_a_flag(arguments):
    topics = {"What": {"run": Doc("Directory"), "steps": Doc("A cap")}}
    assert flags.parse(OfRun, topics, arguments) == OfRun("a,b", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN is required; write it after the program's name, or --run=VALUE"),
        (["--steps=1"], "RUN is required; write it after the program's name, or --run=VALUE"),
        (["a", "--run=b"], "run is given twice, as 'a' and as --run; remove one of them"),
        (["a", "b"], "unexpected argument 'b'; write flags as --name=value"),
    ],
)
def test_a_positional_field_given_twice_is_an_error(arguments, message):
    topics = {"What": {"run": Doc("Directory"), "steps": Doc("A cap")}}
    with pytest.raises(UserError) as caught:
        flags.parse(OfRun, topics, arguments)
    assert str(caught.value) == message


def test_a_positional_tuple_takes_all_arguments():
    topics = {"What": {"runs": Doc("Directories"), "steps": Doc("A cap")}}
    assert flags.parse(OfRuns, topics, ["a,b", "--steps=1", "c"]) == OfRuns(("a,b", "c"), 1)
    assert flags.parse(OfRuns, topics, ["--", "--c"]) == OfRuns(("--c",))
    assert flags.parse(OfRuns, topics, ["--runs=a,b"]) == OfRuns(("a", "b"))
    assert flags.usage(OfRuns) == "RUNS... --flags"
    line = "  RUNS... or --runs         Directories [required]"
    assert line in flags.explain(OfRuns, topics).splitlines()


@dataclasses.dataclass(frozen=True)
class _Inner:
    kept: int = 1
    fixed: str = "class"


@dataclasses.dataclass(frozen=True)
class _Outer:
    inner: _Inner = flags.without(_Inner(kept=2, fixed="instance"), "fixed")  # noqa: RUF009 (a field)


def test_a_field_that_is_left_out_is_no_flag_and_keeps_the_value_of_the_default():
    topics = {"All": {"kept": flags.Doc("A number")}}
    assert flags.parse(_Outer, topics, []).inner == _Inner(2, "instance")
    assert flags.parse(_Outer, topics, ["--kept=3"]).inner == _Inner(3, "instance")
    with pytest.raises(UserError, match="Unknown command line flag 'fixed'"):
        flags.parse(_Outer, topics, ["--fixed=other"])
