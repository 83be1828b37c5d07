"""slurm.sbatch under stubs of Slurm's programs, which set its variables and queue again as it does."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "slurm.sbatch"

# Runs the job at once, again as often as it queued itself; output goes where --output says.
SBATCH = """
output=/dev/stdout
while [[ $1 == --* ]]; do
  [[ $1 == --output=* ]] && output=${1#*=}
  shift
done
export SLURM_JOB_ID=12 SLURM_RESTART_COUNT=0 REQUEUED="$STUBS/requeued"
echo "Submitted batch job $SLURM_JOB_ID"
while :; do
  rm -f "$REQUEUED"
  code=0
  "$@" >>"$output" 2>&1 || code=$?
  [[ -f $REQUEUED ]] || break
  SLURM_RESTART_COUNT=$((SLURM_RESTART_COUNT + 1))
done
echo "$code" >"$STUBS/code"
"""
# Starts TASKS processes with the variables of a step; its exit code is the largest of theirs.
SRUN = """
export SLURM_NTASKS=${TASKS:-1} SLURM_STEP_NUM_NODES=1 SLURM_STEP_NODELIST=localhost
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  tasks[task]=$!
done
most=0
for task in "${tasks[@]}"; do
  code=0
  wait "$task" || code=$?
  ((code > most)) && most=$code
done
exit "$most"
"""


@pytest.fixture
def slurm(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("STUBS", str(tmp_path))
    stub("sbatch", SBATCH)
    stub("srun", SRUN)
    stub("scontrol", '[[ "$*" == "requeue 12" ]] && touch "$REQUEUED"')
    return tmp_path


def submit(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(["sbatch", *argv], capture_output=True, text=True, check=True)


def test_the_job_asks_to_be_queued_again_and_for_a_warning():
    directives = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert directives == [
        *("#SBATCH --job-name=jaxcram", "#SBATCH --nodes=1", "#SBATCH --ntasks-per-node=1"),
        *("#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --signal=TERM@120"),
    ]


def test_cpus_per_task_is_passed_on(slurm, stub, monkeypatch):
    program = stub("cpus", 'echo "${SRUN_CPUS_PER_TASK-unset}" >"$STUBS/cpus_told"')
    for given, told in (("16", "16"), (None, "unset")):
        if given:
            monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
        else:
            monkeypatch.delenv("SLURM_CPUS_PER_TASK")
        submit(str(SCRIPT), str(program))
        assert (slurm / "cpus_told").read_text() == f"{told}\n"


def test_every_task_is_a_process_of_the_run(slurm, stub, monkeypatch):
    monkeypatch.setenv("TASKS", "3")
    program = stub(
        "my jaxcram", 'printf "%s\\n" "$SLURM_PROCID of $SLURM_NTASKS" "$@" >"$STUBS/$SLURM_PROCID"'
    )
    submit(str(SCRIPT), str(program), "cram", "--out=a b", "--texts=it's")
    for task in range(3):
        lines = (slurm / str(task)).read_text().splitlines()
        assert lines == [f"{task} of 3", "cram", "--out=a b", "--texts=it's"]
    assert (slurm / "code").read_text() == "0\n"


@pytest.mark.parametrize(
    ("ending", "starts", "code"),
    [
        ("exit 143", 3, 143),
        ("exit 75", 3, 75),
        ("kill -9 $$", 3, 137),
        ("exit 130", 1, 130),
        ("exit 2", 1, 2),
        ("exit 1", 1, 1),
        ("((SLURM_RESTART_COUNT == 1)) || exit 143", 2, 0),
    ],
)
def test_only_resumable_exit_codes_are_requeued(ending, starts, code, slurm, stub):
    stub("jaxcram-stub", f'echo start >>"$STUBS/starts"\n{ending}')
    submit(f"--output={slurm}/log", str(SCRIPT), "--restarts=2", "jaxcram-stub", "cram")
    assert (slurm / "starts").read_text().splitlines() == ["start"] * starts
    assert (slurm / "code").read_text() == f"{code}\n"
    if code == 143:
        assert (slurm / "log").read_text().splitlines() == [
            *["slurm.sbatch: exit code 143; requeued"] * 2,
            "slurm.sbatch: exit code 143 after 2 restarts; the same command resumes",
        ]


def test_sigterm_to_the_batch_shell_waits_for_the_processes(slurm, stub, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("REQUEUED", str(slurm / "requeued"))
    stub("jaxcram-stub", 'touch "$STUBS/ready"; while [[ ! -f $STUBS/end ]]; do sleep 0.05; done; exit 143')
    shell = subprocess.Popen([SCRIPT, "jaxcram-stub"], stdout=subprocess.PIPE, text=True)
    wait_until((slurm / "ready").exists)
    shell.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert shell.poll() is None
    (slurm / "end").touch()
    out, _ = shell.communicate(timeout=30)
    assert (shell.returncode, out) == (143, "slurm.sbatch: exit code 143; requeued\n")
    assert (slurm / "requeued").exists()


@pytest.mark.parametrize("argv", [[], ["--restarts=2"], ["--restarts=x", "jaxcram"]])
def test_a_mistake_is_one_line(argv):
    done = subprocess.run([SCRIPT, *argv], capture_output=True, text=True, check=False)
    complaint = "slurm.sbatch: error: write [--restarts=N] jaxcram cram FLAGS\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", complaint)


@pytest.mark.slow
def test_a_real_run_through_sweep_and_slurm(slurm, sweep_program):
    root = slurm / "my runs"
    code = sweep_program(
        *("--target=slurm", f"--root={root}", "--learning_rates=0.1", "--target_flags=--nodes=1"),
        *("--", "--texts=stories:1", "--max_tokens=3", "--max_steps=2", "--chunk_passes=2"),
    )
    log = root / "bundled-progressive-lr0.1.log"
    assert (code, (slurm / "code").read_text()) == (0, "0\n"), log.read_text()
    assert len(os.listdir(root / "bundled-progressive-lr0.1" / "rows")) == 1
    assert "lanes" in log.read_text()
