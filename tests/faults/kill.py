"""Kill runs, fill their disks, damage their files, and count rows: none may be lost, doubled or different.

    python tests/faults/kill.py --kills=200

One uninterrupted run is the reference. Then run after run is started on a tiny random model and stopped by
something from a shuffled deck, until it has come through; between two starts, files may be damaged too.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ |= {"JAX_NUM_CPU_DEVICES": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

import jax

from jaxcram import cramming
from jaxcram.cli import show
from jaxcram.results.reading import load_rows
from tests.faults import child, starts
from tests.faults.files import DAMAGE, damage, events, rows_of
from tests.faults.starts import OFTEN, Ended

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


class Campaign:
    """All runs, in the working directory, and what was counted.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self._decks: dict[tuple[str, ...], list[str]] = {}
        self._number = 0
        self.reference, self.seconds, self.operations = {}, 0.0, 0

    def draw(self, deck: tuple[str, ...]) -> str:
        """The next card; a deck is shuffled again when it is through."""
        if not self._decks.get(deck):
            self._decks[deck] = self.random.sample(deck, len(deck))
        return self._decks[deck].pop()

    def fresh(self) -> Path:
        self._number += 1
        return Path(f"run{self._number:03d}")

    def start(self, out: Path, prepare: Callable[[], object] = lambda: None, minutes: float = OFTEN) -> Ended:
        """One start of the program; `prepare` is called in it first."""
        return starts.end(*self._begin(out, prepare, minutes))

    def _begin(self, out: Path, prepare: Callable[[], object], minutes: float) -> tuple[int, int]:
        self.counts["starts"] += 1
        return starts.begin(out, prepare, minutes)

    def measure(self) -> None:
        """The reference, without checkpoints; and how long a run with them takes: seconds, operations."""
        out, count = self.fresh(), Path("operations")
        self.expect(self.start(out, minutes=0), {0}, "the reference")
        self.reference = rows_of(out)
        out = self.fresh()

        def prepare() -> None:
            operations, finished = child.count_operations(out), cramming.Run
            cramming.Run = lambda path: (count.write_text(str(operations())), finished(path))[1]

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
        self.resumed(out, harmed=not {"flipped", "truncated"}.isdisjoint(history))
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
            "full disk": (at(lambda: child.limit_files(size)), {75}, "free disk space, then start the same"),
            "vanished directory": (
                at(lambda: out.exists() and out.rename(away)),
                {75},
                "restore the disk or",
            ),
            "SIGINT": (at(lambda: os.kill(os.getpid(), signal.SIGINT)), {130}, "interrupted; "),
            "SIGTERM": (
                at(lambda: os.kill(os.getpid(), signal.SIGTERM)),
                {143, -signal.SIGTERM},
                "terminated; resume with: jaxcram cram",
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
        pid, output = self._begin(out, prepare, OFTEN)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return starts.end(pid, output, status)
        if starts.locked(out / "run.lock"):
            second = self.start(out)
            self.expect(second, {2}, "a second run")
            self.counts["refused"] += 1
            if "is working on this run" not in second.text:
                self.problems.append(f"a second run: no word of the first\n{second.text[-3000:]}")
        os.kill(pid, signal.SIGKILL)
        self.counts["kills"] += 1
        return starts.end(pid, output)

    def damage(self, out: Path) -> str:
        """Damages the files of a run that is not running, or not; what was done."""
        card = self.draw(DAMAGE)
        if not damage(out, card, self.random):
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

    def resumed(self, out: Path, harmed: bool) -> None:
        """Counts the starts from a checkpoint; without harm, none of these may be called damaged."""
        for event in events(out):
            self.counts["from a checkpoint"] += event.get("resumed", 0) > 0
            if event["event"] == "damaged_checkpoint" and not harmed:
                self.problems.append(f"{out}: a whole checkpoint is called damaged: {event}")

    def small_disk(self) -> None:
        """A run on a disk of its own, which is full again and again, and then larger."""
        disk = Path("disk")
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
                if "free disk space, then start the same command again" not in last:
                    self.problems.append(f"full tmpfs: it ends with\n{ended.text[-3000:]}")
            self.compare(disk / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def other_devices(self) -> None:
        """A run that goes on on two devices finishes the same lanes."""
        out = self.fresh()
        # With a checkpoint after every chunk it dies in the third or so, however quick the machine is.
        killed = self.start(
            out, lambda: child.at_operation(out / "checkpoints", 100, child.kill), minutes=1e-9
        )
        self.expect(killed, {-signal.SIGKILL}, "a run on one device, to be killed")
        ended = self.start(out, lambda: jax.config.update("jax_num_cpu_devices", 2))
        self.expect(ended, {0}, "a run that goes on on two devices")
        if not any(event.get("resumed") for event in events(out)):
            self.problems.append("on two devices it began again, instead of going on")
        if {place[:3] for place in rows_of(out)} != {place[:3] for place in self.reference}:
            self.problems.append("on two devices other lanes were finished")
        meshes = {row["mesh"] for row in load_rows(out, ["mesh"]).to_pylist()}
        if "lanes:2,fsdp:1,model:1" not in meshes:
            self.problems.append(f"nothing was measured on two devices, only on {meshes}")
        self.counts["went on on two devices"] += 1


def mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def faults(kills: int, seed: int) -> int:
    """Runs the campaign and prints its figures; the exit code."""
    show.draw = lambda run: "left out"  # a second a run, and nothing to lose in it
    warnings.simplefilter("ignore")  # JAX warns of forks; nothing has been computed here
    begin = time.monotonic()
    with starts.working_directory():
        campaign = Campaign(seed)
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
