"""Kill runs, fill their disks, damage their files, and count rows: none may be lost, doubled or different.

    python tests/faults/kill.py --kills=200

One uninterrupted run is the reference. Then run after run is started on a tiny random model and stopped by
something from a shuffled deck, until it has come through; between two starts, files may be damaged too.
Starts are forks of this process, which has imported everything and computed nothing.
"""

import argparse
import collections
import contextlib
import dataclasses
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ |= {"JAX_NUM_CPU_DEVICES": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

import jax
import orbax.checkpoint  # noqa: F401 (a start that resumes has it ready)

from jaxcram import api, results
from jaxcram.cli import show
from jaxcram.cli.main import main
from jaxcram.curves import CURVES
from jaxcram.rows import ROWS
from tests.faults import child
from tests.faults.model import make_model

TEXTS = ("w1 w2 w3 w4 w5 w6 w7 w8 w9 w0 w1", "w3 w1 w4 w1 w5 w9 w2 w6", "w2 w7 w1 w8 w2 w8 w1 w8 w2 w8")
FLAGS = ("--learning_rates=0.1,1.0", "--max_steps_per_token=24", "--chunk_passes=4", "--log_every=3")
OFTEN = 0.002  # minutes between two checkpoints
KILLS = ("at an operation", "in a write", "by the clock")
DECK = (
    *KILLS * 4,
    "at an operation",
    "full disk",
    "vanished directory",
    "SIGINT",
    "SIGTERM",
    "second run",
)
DAMAGE = ("none", "none", "flipped", "truncated", "none", "removed shard", "none")


@dataclasses.dataclass
class Ended:
    """How a start ended: its exit code, or minus the signal that ended it; and what it printed on stderr."""

    code: int
    text: str


class Campaign:
    """All runs, and what was counted.

    Args:
        folder: for models, runs and outputs.
        seed: of everything that is drawn.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self._decks: dict[tuple[str, ...], list[str]] = {}
        self._number = 0
        make_model(folder / "model")
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
        self.reference, self.seconds, self.operations = {}, 0.0, 0

    def draw(self, deck: tuple[str, ...]) -> str:
        """The next card; a deck is shuffled again when it is through."""
        if not self._decks.get(deck):
            self._decks[deck] = self.random.sample(deck, len(deck))
        return self._decks[deck].pop()

    def fresh(self) -> Path:
        self._number += 1
        return self.folder / f"run{self._number:03d}"

    def start(self, out: Path, prepare: Callable[[], object] = lambda: None, minutes: float = OFTEN) -> Ended:
        """One start of the program, in a fork; `prepare` is called in it first."""
        return self._ended(*self._fork(out, prepare, minutes))

    def _fork(self, out: Path, prepare: Callable[[], object], minutes: float) -> tuple[int, int]:
        """A start's process, and where its output can be read."""
        self.counts["starts"] += 1
        reading, writing = os.pipe()  # a file would feel the limits on files
        arguments = [f"--model={self.folder / 'model'}", f"--texts={self.folder / 'texts.jsonl'}"]
        arguments += [f"--out={out}", f"--checkpoint_minutes={minutes}", *FLAGS]
        pid = os.fork()
        if pid:
            os.close(writing)
            return pid, reading
        code = 1
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(writing)
            prepare()
            code = main(["cram", *arguments])
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)

    def _ended(self, pid: int, output: int, status: int | None = None) -> Ended:
        with open(output, errors="replace") as file:
            text = file.read()
        status = os.waitpid(pid, 0)[1] if status is None else status
        return Ended(os.waitstatus_to_exitcode(status), text)

    def measure(self) -> None:
        """The reference, without checkpoints; and how long a run with them takes: seconds, operations."""
        out, count = self.fresh(), self.folder / "operations"
        self.expect(self.start(out, minutes=0), {0}, "the reference")
        self.reference = rows_of(out)
        out = self.fresh()

        def prepare() -> None:
            operations, finished = child.count_operations(out), api.Run
            api.Run = lambda path: (count.write_text(str(operations())), finished(path))[1]

        begin = time.monotonic()
        self.expect(self.start(out, prepare), {0}, "a run that nothing happens to")
        self.seconds = time.monotonic() - begin
        self.operations = int(count.read_text())
        self.compare(out)

    def expect(self, ended: Ended, codes: set[int], what: str) -> None:
        if ended.code not in codes:
            self.problems.append(f"{what}: exit code {ended.code}, not {codes}\n{ended.text[-3000:]}")

    def run(self) -> None:
        """A run from its first start to its end."""
        out, known = self.fresh(), len(self.problems)
        history = []
        while True:
            card = self.draw(DECK)
            ended = self.strike(out, card)
            history.append(f"{card}: {ended.code}")
            if ended.code == 0:
                break
            self.counts[card] += 1
            if card in KILLS:
                self.counts["kills"] += 1
            history.append(self.damage(out))
        self.compare(out)
        if len(self.problems) > known:
            self.problems.append(f"in the run of {history}; its last words\n{ended.text[-3000:]}")
        shutil.rmtree(out)

    def strike(self, out: Path, card: str) -> Ended:
        """A start that `card` happens to, if it comes so far."""
        # A run has fewer operations left from start to start: early and late ones are as likely.
        operation = int(self.operations ** self.random.random())
        size = self.random.randint(0, 6000)
        seed = self.random.random()

        def at(act: Callable[[], object]) -> Callable[[], None]:
            def prepare() -> None:
                child.jumping_clock(seed)
                if card == "in a write":
                    child.die_of_limits()
                child.at_operation(out, operation, act)

            return prepare

        if card == "second run":
            return self.second_run(out, at(child.stop))
        seconds = self.seconds * self.random.random() ** 2
        away = out.with_suffix(".away")
        prepare, codes, says = {
            "at an operation": (at(child.kill), {-signal.SIGKILL}, ""),
            "in a write": (at(lambda: child.limit_files(size)), {-signal.SIGXFSZ}, ""),
            "by the clock": (lambda: child.by_the_clock(seconds), {-signal.SIGKILL}, ""),
            "full disk": (at(lambda: child.limit_files(size)), {75}, "make room, then start the same"),
            "vanished directory": (at(lambda: out.exists() and out.rename(away)), {75}, "bring the disk or"),
            "SIGINT": (at(lambda: os.kill(os.getpid(), signal.SIGINT)), {130}, "interrupted; "),
            "SIGTERM": (
                at(lambda: os.kill(os.getpid(), signal.SIGTERM)),
                {143, -signal.SIGTERM},
                "terminated; go on with: jaxcram cram",
            ),
        }[card]
        ended = self.start(out, prepare)
        if away.exists() and ended.code == 0:
            shutil.rmtree(away)  # it had gone before it was opened, so that a new one was made, and finished
        elif away.exists():
            shutil.rmtree(out, ignore_errors=True)
            away.rename(out)
        if card == "vanished directory" and ended.code == 2:
            # It had gone before anything was written: then it is no run, and the person has to look.
            codes, says = {2}, "no settings.json in it"
        self.expect(ended, {0} | codes, card)
        if ended.code > 0 and says not in ended.text:
            self.problems.append(f"{card}: it does not say {says!r}\n{ended.text[-3000:]}")
        return ended

    def second_run(self, out: Path, prepare: Callable[[], object]) -> Ended:
        """A start on a directory that another process has locked and waits in; then that one is killed."""
        pid, output = self._fork(out, prepare, OFTEN)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return self._ended(pid, output, status)
        if locked(out / "run.lock"):
            second = self.start(out)
            self.expect(second, {2}, "a second run")
            self.counts["refused"] += 1
            if "is working on this run" not in second.text:
                self.problems.append(f"a second run: no word of the first\n{second.text[-3000:]}")
        os.kill(pid, signal.SIGKILL)
        self.counts["kills"] += 1
        return self._ended(pid, output)

    def damage(self, out: Path) -> str:
        """What may happen to the files of a run that is not running; what did."""
        card = self.draw(DAMAGE)
        shards = sorted(out.glob("rows/*.parquet"))
        steps = sorted(out.glob("checkpoints/state/[0-9]*"), key=lambda path: path.name.zfill(9))
        steps = [step for step in steps if step.name.isdecimal()]
        if card == "removed shard" and shards:
            self.random.choice(shards).unlink()
        elif card in ("flipped", "truncated") and steps:
            files = sorted(file for file in steps[-1].rglob("*") if file.is_file() and file.stat().st_size)
            arrays = [file for file in files if file.parent.name == "d"]
            file = self.random.choice(arrays if card == "flipped" and arrays else files)
            content = bytearray(file.read_bytes())
            place = self.random.randrange(len(content))
            if card == "flipped":
                content[place] ^= 1 << self.random.randrange(8)
            else:
                del content[place:]
            file.write_bytes(content)
        else:
            return "no damage"
        self.counts[card] += 1
        return card

    def compare(self, out: Path) -> None:
        """Counts what differs from the reference."""
        try:
            found = rows_of(out)
        except Exception as error:
            self.problems.append(f"{out}: {error!r}")
            return
        self.counts["compared"] += 1
        for place, values in self.reference.items():
            copies = found.pop(place, [])
            self.counts["rows"] += 1
            self.counts["lost"] += not copies
            self.counts["doubled"] += max(0, len(copies) - 1)
            self.counts["different"] += any(copy != values[0] for copy in copies)
        self.counts["different"] += len(found)
        left = [path for path in out.rglob("*") if path.suffix in (".tmp", ".unreadable")]
        left += [out / "checkpoints"] if (out / "checkpoints").exists() else []
        if left:
            self.problems.append(f"left behind: {left}")

    def small_disk(self) -> None:
        """A run on a disk of its own, which is full again and again, and then larger."""
        disk = self.folder / "disk"
        disk.mkdir()
        if not mounted("-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)):
            self.counts["no small disk: only root may mount one"] += 1
            return
        try:
            # Without checkpoints it is a shard that finds no room.
            for kilobytes, minutes in ((8, 0), (24, 0), (48, 0), (96, 1), (384, 1), (448, 1), (16384, 1)):
                mounted("-o", f"remount,size={kilobytes}k", str(disk))
                ended = self.start(disk / "run", minutes=minutes and OFTEN)
                self.expect(ended, {0, 75}, f"a disk of {kilobytes} kB")
                if ended.code == 0:
                    break
                self.counts["full tmpfs"] += 1
                last = ended.text.strip().splitlines()[-1]
                if "make room, then start the same command again" not in last:
                    self.problems.append(f"full tmpfs: it ends with\n{ended.text[-3000:]}")
            self.compare(disk / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def other_devices(self) -> None:
        """A run that goes on on two devices finishes the same lanes."""
        operation = 2 * self.operations // 3
        while True:  # on a machine that is quicker now a run has fewer checkpoints, and may end before
            out, operation = self.fresh(), operation // 2
            killed = self.start(out, lambda: child.at_operation(out, operation, child.kill))  # noqa: B023
            if killed.code or operation <= 1:
                break
        self.expect(killed, {-signal.SIGKILL}, "a run on one device, to be killed")
        ended = self.start(out, lambda: jax.config.update("jax_num_cpu_devices", 2))
        self.expect(ended, {0}, "a run that goes on on two devices")
        if {place[:3] for place in rows_of(out)} != {place[:3] for place in self.reference}:
            self.problems.append("on two devices other lanes were finished")
        meshes = {row["mesh"] for row in results.load_rows(out, ["mesh"]).to_pylist()}
        if "lanes:2,fsdp:1,model:1" not in meshes:
            self.problems.append(f"nothing was measured on two devices, only on {meshes}")
        self.counts["went on on two devices"] += 1


def rows_of(out: Path) -> dict[tuple, list[str]]:
    """All rows of a run, those of its curves too, to the bit, by lane, table and number."""
    found = collections.defaultdict(list)
    for shards, table in ((ROWS, results.load_rows(out)), (CURVES, results.load_curves(out))):
        for row in table.to_pylist():
            place = row["sample_id"], row["learning_rate"], row["seed"], shards.name, row[shards.index]
            found[place].append(repr(sorted(row.items())))
    return found


def locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


@contextlib.contextmanager
def campaign_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", f"{name}/xla")
        yield Path(name)


def faults(kills: int, seed: int) -> int:
    """Runs the campaign and prints its figures; the exit code."""
    show.draw = lambda run: "left out"  # a second a run, and nothing to lose in it
    warnings.simplefilter("ignore")  # JAX warns of forks; nothing has been computed here
    begin = time.monotonic()
    with campaign_folder() as folder:
        campaign = Campaign(folder, seed)
        campaign.measure()
        campaign.small_disk()
        campaign.other_devices()
        while campaign.counts["kills"] < kills and not campaign.problems:
            campaign.run()
        counts = campaign.counts
    for problem in campaign.problems:
        print(f"PROBLEM {problem}\n")
    figures = {name: counts.pop(name, 0) for name in ("kills", "starts", "compared")}
    rows = {name: counts.pop(name, 0) for name in ("rows", "lost", "doubled", "different")}
    print(", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
    print("{kills} kills in {starts} starts, {compared} finished runs".format(**figures), end="")
    print(f" in {time.monotonic() - begin:.0f} s (seed {seed}, {len(campaign.reference)} rows a run)")
    print("rows lost {lost}, doubled {doubled}, different {different}, of {rows}".format(**rows))
    bad = rows["lost"] + rows["doubled"] + rows["different"] + len(campaign.problems)
    return 1 if bad or not figures["compared"] else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    options = parser.parse_args()
    sys.exit(faults(options.kills, options.seed))
