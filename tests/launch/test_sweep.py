"""The grid and its commands, to the letter; and runs on this machine, of a stub and of the real program."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--models=smollm2_135m", "--learning_rates=0.5", "--dry_run")

RECORD = """
for word; do [[ $word == --out=* ]] && out=${word#*=}; done
mkdir -p "$out"
printf '%s\\n' "$@" >"$out/arguments"
"""


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (
            ("--models=smollm2_135m,org/some-model", "--modes=progressive,full", "--learning_rates=0.1,1"),
            [
                "jaxcram cram --flagfile=configs/smollm2_135m.flags --mode=progressive "
                "--learning_rates=0.1,1 --out=runs/sweep/smollm2_135m-progressive-lr0.1_1",
                "jaxcram cram --flagfile=configs/smollm2_135m.flags --mode=full "
                "--learning_rates=0.1,1 --out=runs/sweep/smollm2_135m-full-lr0.1_1",
                "jaxcram cram --model=org/some-model --mode=progressive "
                "--learning_rates=0.1,1 --out=runs/sweep/some-model-progressive-lr0.1_1",
                "jaxcram cram --model=org/some-model --mode=full "
                "--learning_rates=0.1,1 --out=runs/sweep/some-model-full-lr0.1_1",
            ],
        ),
        (
            ("--models=configs/pythia_160m.flags,smollm2_135m", "--root=a b/", "--", "--texts=my texts.txt"),
            [
                "jaxcram cram --flagfile=configs/pythia_160m.flags '--texts=my texts.txt' "
                "--mode=progressive --learning_rates=0.5 '--out=a b/pythia_160m-progressive-lr0.5'",
                "jaxcram cram --flagfile=configs/smollm2_135m.flags '--texts=my texts.txt' "
                "--mode=progressive --learning_rates=0.1 '--out=a b/smollm2_135m-progressive-lr0.1'",
            ],
        ),
        (
            ("--split_learning_rates", "--program=/opt/my env/jaxcram", "--", "--min_lr=0.01"),
            [
                "'/opt/my env/jaxcram' cram --flagfile=configs/bundled.flags --min_lr=0.01 "
                f"--mode=progressive --learning_rates={rate} --out=runs/sweep/bundled-progressive-lr{rate}"
                for rate in ("0.01", "0.1", "0.5", "1")
            ],
        ),
        (
            (
                *SMALL,
                "--target=slurm",
                "--root=a b",
                "--restarts=7",
                "--target_flags=--nodes=2 --comment='x y'",
            ),
            [
                "sbatch --job-name=smollm2_135m-progressive-lr0.5 "
                "'--output=a b/smollm2_135m-progressive-lr0.5.log' --nodes=2 '--comment=x y' "
                f"{ROOT}/launch/slurm.sbatch --restarts=7 "
                "jaxcram cram --flagfile=configs/smollm2_135m.flags --mode=progressive --learning_rates=0.5 "
                "'--out=a b/smollm2_135m-progressive-lr0.5'"
            ],
        ),
        (
            (*SMALL, "--target=tpu", "--target_flags=--zone=us-west4-a --type=v5litepod-16"),
            [
                f"{ROOT}/launch/tpu_pod.sh --name=jaxcram-smollm2-135m-progressive-lr0-5 --restarts=3 "
                "--zone=us-west4-a --type=v5litepod-16 -- --flagfile=configs/smollm2_135m.flags "
                "--mode=progressive --learning_rates=0.5 --out=runs/sweep/smollm2_135m-progressive-lr0.5"
            ],
        ),
        (
            (
                *(*SMALL, "--target=kubernetes", "--root=a b"),
                "--target_flags=--image=i --claim=c --accelerator=nvidia-h200-141gb --devices=8",
            ),
            ["kubectl apply '--filename=a b/smollm2_135m-progressive-lr0.5.yaml'"],
        ),
    ],
)
def test_a_dry_run_prints_the_exact_commands_and_does_nothing(argv, lines, sweep_program, capsys):
    before = sorted(ROOT.iterdir())
    assert sweep_program("--dry_run", *argv) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert sorted(ROOT.iterdir()) == before


def test_the_commands_in_the_readme_are_right(sweep_program, capsys):
    """All of its sweeps are accepted, whatever the target."""
    blocks = (ROOT / "launch" / "README.md").read_text().replace("\\\n", " ").split("```bash\n")[1:]
    lines = "".join(block.split("```")[0] for block in blocks)
    sweeps = [
        one.split("launch/tpu_pod.sh")[0].split("sbatch")[0] for one in lines.split("python launch/")[1:]
    ]
    for one in sweeps:
        program, *argv = shlex.split(one)
        assert program == "sweep.py"
        assert sweep_program("--dry_run", *argv) == 0, capsys.readouterr().err
    assert len(sweeps) == 5


KNOWN = ", ".join(sorted(file.stem for file in (ROOT / "configs").glob("*.flags")))
GPUS = "--target=kubernetes --target_flags=--image=i --claim=c --devices=8 --accelerator=nvidia-h200-141gb"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (
            ["--models=gpt5"],
            f"--models: 'gpt5' is neither a flagfile of configs/ ({KNOWN}) "
            "nor a model (owner/name or a path)",
        ),
        (
            ["--models=no.flags"],
            "cannot read the --flagfile no.flags (No such file or directory); check its path",
        ),
        (["--modes=sideways"], "mode 'sideways' is unknown: choose one of progressive, full"),
        (["--learning_rates=fast"], "flag --learning_rates=fast: 'fast' is not a number"),
        (["--target=cloud"], "--target=cloud is unknown: choose one of local, slurm, tpu, kubernetes"),
        (["--parallel=0"], "--parallel=0 must be at least 1"),
        (["--restarts=-1"], "--restarts=-1 must be 0 or greater"),
        (["--", "--out=x"], "--out=x after --: the sweep itself sets --out"),
        (["--", "stray"], "unexpected argument 'stray'; write flags as --name=value"),
        (
            ["--target=slurm", "--target_flags='"],
            "--target_flags=': No closing quotation; close the quotation",
        ),
        (
            ["--target_flags=--x"],
            "--target_flags does not apply to --target=local; write flags of cram after --",
        ),
        (
            ["--models=a/x,b/x"],
            "two runs of the grid would share runs/sweep/x-progressive-lr0.01_0.1_0.5_1; sweep them with "
            "different --root",
        ),
        (
            ["--target=tpu", "--root=/data"],
            "/data/bundled-progressive-lr0.01_0.1_0.5_1: on a TPU slice only runs/ is kept; choose a --root "
            "under it",
        ),
        (["--target=kubernetes"], "--image is required; write --image=VALUE"),
        ([*GPUS.split(" ", 1), "--root=/data"], "/data/bundled-progressive-lr0.01_0.1_0.5_1: on Kubernetes "
         "--root is a path in the volume; make it relative"),
        (["--program=/no/such/jaxcram"], None),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(argv, complaint, sweep_program, capsys, tmp_path):
    if complaint is None:
        argv.append(f"--root={tmp_path}")
        complaint = "/no/such/jaxcram is not an executable on the PATH; "
        complaint += "install it, or use --dry_run to see the commands"
    else:
        argv.insert(0, "--dry_run")
    assert sweep_program(*argv) == 2
    assert capsys.readouterr() == ("", f"sweep.py: error: {complaint}\n")


def test_runs_have_their_directories_and_failures_are_listed_at_the_end(
    sweep_program, stub, tmp_path, capsys
):
    fails = 'if [[ $* == *--mode=full* ]]; then echo "out of luck" >&2; exit 2; fi'
    program, root = stub("my jaxcram", RECORD + fails), tmp_path / "the runs"
    code = sweep_program(
        *(f"--program={program}", f"--root={root}", "--modes=full,progressive", "--learning_rates=0.1"),
        *("--parallel=2", "--", "--texts=a 'text'.txt"),
    )
    assert code == 1
    out, err = capsys.readouterr()
    assert err == "failed: bundled-full-lr0.1: exit code 2\n"
    assert "bundled-full-lr0.1: exit code 2; its log ends: out of luck\n" in out
    assert "bundled-progressive-lr0.1: done after 0 s\n" in out
    assert (root / "bundled-progressive-lr0.1" / "arguments").read_text().splitlines() == [
        *("cram", "--flagfile=configs/bundled.flags", "--texts=a 'text'.txt", "--mode=progressive"),
        *("--learning_rates=0.1", f"--out={root}/bundled-progressive-lr0.1"),
    ]


@pytest.mark.parametrize(
    ("ending", "starts", "code"),
    [
        ("exit 75", 3, 1),
        ("exit 143", 3, 1),
        ("kill -9 $$", 3, 1),
        ("exit 1", 1, 1),
        ("exit 2", 1, 1),
        ("exit 130", 1, 1),
        ('[[ $(wc -l <"$out.starts") == 2 ]] || exit 75', 2, 0),
    ],
)
def test_only_resumable_exit_codes_are_restarted(ending, starts, code, sweep_program, stub, tmp_path, capsys):
    program = stub("jaxcram-stub", RECORD + 'echo started >>"$out.starts"\n' + ending)
    root = tmp_path / "runs"
    assert (
        sweep_program(f"--program={program}", f"--root={root}", "--learning_rates=0.1", "--restarts=2")
        == code
    )
    assert (root / "bundled-progressive-lr0.1.starts").read_text().splitlines() == ["started"] * starts
    if ending.startswith("kill"):
        assert capsys.readouterr().err == "failed: bundled-progressive-lr0.1: killed by SIGKILL\n"


@pytest.mark.parametrize(("root", "why"), [("file", "File exists"), ("file/runs", "Not a directory")])
def test_an_impossible_root_is_one_line(root, why, sweep_program, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert sweep_program(f"--root={tmp_path}/{root}", "--program=true") == 2
    assert capsys.readouterr() == (
        "",
        f"sweep.py: error: --root={tmp_path}/{root} cannot be written ({why}); choose another directory\n",
    )


def test_a_root_that_is_read_only_is_one_line(sweep_program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write wherever it likes
    assert sweep_program(f"--root={tmp_path}", "--program=true") == 2
    assert capsys.readouterr().err == (
        f"sweep.py: error: --root={tmp_path} cannot be written (Permission denied); "
        "choose another directory\n"
    )


def test_an_unwritable_log_fails_only_its_run(sweep_program, stub, tmp_path, capsys):
    program, log = stub("jaxcram-stub", RECORD), tmp_path / "bundled-full-lr0.1.log"
    log.mkdir()
    code = sweep_program(
        *(f"--program={program}", f"--root={tmp_path}"),
        *("--modes=full,progressive", "--learning_rates=0.1"),
    )
    out, err = capsys.readouterr()
    assert (code, err) == (1, "failed: bundled-full-lr0.1: exit code 2\n")
    assert f"bundled-full-lr0.1: cannot be started ([Errno 21] Is a directory: '{log}')\n" in out
    assert (tmp_path / "bundled-progressive-lr0.1" / "arguments").exists()


@pytest.mark.parametrize(("parallel", "most"), [(1, 1), (2, 2)])
def test_at_most_parallel_runs_at_a_time(parallel, most, sweep_program, stub, tmp_path):
    """Each waits a while for as many as may be there; the third one for nobody."""
    body = f"""
root=${{out%/*}} tries=0
touch "$out.here"
while here=("$root"/*.here) all=("$root"/*/arguments)
      ((${{#here[@]}} < {most} && ${{#all[@]}} < 3 && ++tries < 400)); do sleep 0.05; done
echo ${{#here[@]}} >>"$root/seen"
sleep 0.3
rm "$out.here"
"""
    program, root = stub("jaxcram-stub", RECORD + body), tmp_path / "runs"
    assert (
        sweep_program(
            *(f"--program={program}", f"--root={root}", f"--parallel={parallel}"),
            *("--split_learning_rates", "--learning_rates=0.1,0.2,0.5"),
        )
        == 0
    )
    seen = (root / "seen").read_text().split()
    assert (len(seen), max(map(int, seen))) == (3, most)


def test_a_signal_reaches_the_runs_and_nothing_new_starts(stub, tmp_path):
    body = 'trap \'echo told >"$out/told"; exit 143\' TERM; touch "$out/ready"; while :; do sleep 0.05; done'
    program, root = stub("jaxcram-stub", RECORD + body), tmp_path / "runs"
    command = [sys.executable, ROOT / "launch" / "sweep.py", f"--program={program}", f"--root={root}"]
    sweeping = subprocess.Popen(
        [*command, "--split_learning_rates", "--learning_rates=0.1,0.2"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    first = root / "bundled-progressive-lr0.1"
    wait_until((first / "ready").exists)
    sweeping.send_signal(signal.SIGTERM)
    _, err = sweeping.communicate(timeout=30)
    assert sweeping.returncode == 128 + signal.SIGTERM
    assert err.splitlines() == [
        "failed: bundled-progressive-lr0.1: exit code 143",
        "interrupted, 1 not started; the same command resumes",
    ]
    assert (first / "told").exists()
    assert not (root / "bundled-progressive-lr0.2").exists()


@pytest.mark.slow
def test_a_real_sweep_and_the_same_again(sweep_program, tmp_path, capsys):
    """One story at two learning rates; the second time nothing is computed, and no row is written."""
    argv = (
        *(f"--root={tmp_path}/my runs", "--modes=full", "--learning_rates=0.1,1"),
        *("--", "--texts=stories:1", "--max_tokens=3", "--max_steps=2", "--chunk_passes=2"),
    )
    assert sweep_program(*argv) == 0
    rows = (tmp_path / "my runs" / "bundled-full-lr0.1_1" / "rows").iterdir()
    rows = {path: os.stat(path).st_mtime_ns for path in rows}
    assert len(rows) == 2
    assert sweep_program(*argv) == 0
    assert {path: os.stat(path).st_mtime_ns for path in rows} == rows
    assert capsys.readouterr().err == ""
