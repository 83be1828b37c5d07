"""tpu_pod.sh and tpu_worker.sh with a stub of gcloud, whose workers are directories of this machine.

The stub keeps a log of what it was asked, runs what is sent to a worker with the worker's HOME, and takes a
slice away, disks and all, when a file says so; the bucket outlives it.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

GCLOUD = """
printf '%s\\n' "$*" >>"$CLOUD/log"
arguments=$*
[[ $1 == compute ]] || { [[ $1 == storage ]]; cp -r "$CLOUD/bucket/." "$5"; exit; } # storage rsync
on_workers() {
  local worker
  for worker in "$CLOUD"/slice/worker*; do
    if [[ $arguments == *--worker=all* || $worker == *worker0 ]]; then
      (cd "$worker" && HOME=$worker "$@") &
    fi
  done
  local code=0 job
  for job in $(jobs -p); do wait "$job" || code=$?; done
  if [[ -f $CLOUD/preempt ]]; then
    rm -r "$CLOUD/preempt" "$CLOUD/slice"
    echo "$gone" >"$CLOUD/state"
    code=255
  fi
  return "$code"
}
gone=PREEMPTED
[[ -f $CLOUD/spot ]] && gone=SUSPENDED
create() {
  mkdir -p "$CLOUD/slice/worker0" "$CLOUD/slice/worker1"
  for worker in "$CLOUD"/slice/*; do mkdir -p "$worker/.local/bin"; cp "$CLOUD/uv" "$worker/.local/bin/"; done
}
case "$3 $4" in
  'tpu-vm describe')
    [[ -d $CLOUD/slice ]] && echo READY && exit
    [[ -f $CLOUD/state && ! -f $CLOUD/spot ]] && cat "$CLOUD/state" && exit
    exit 1 ;;
  'queued-resources describe')
    [[ -d $CLOUD/slice ]] && echo ACTIVE && exit
    [[ -f $CLOUD/state ]] && cat "$CLOUD/state" && exit
    exit 1 ;;
  'tpu-vm create') create ;;
  'queued-resources create') touch "$CLOUD/spot"; create ;;
  'tpu-vm delete' | 'queued-resources delete') rm -rf "$CLOUD/slice" "$CLOUD/state" ;;
  'tpu-vm scp')
    if [[ $6 == *:* ]]; then
      on_workers cp "$5" jaxcram.tar.gz
    else
      cp -r "$CLOUD"/slice/worker0/jaxcram/runs/* "$6"
    fi ;;
  'tpu-vm ssh')
    for word; do [[ $word == --command=* ]] && command=${word#*=}; done
    on_workers bash -c "$command" ;;
esac
"""
# Stands for uv: a venv holds the program of the test.
UV = """#!/usr/bin/env bash
[[ $1 == venv ]] && mkdir -p "${@: -1}/bin" && cp "$CLOUD/jaxcram" "${@: -1}/bin/"
exit 0
"""
DONE = 'echo "$PWD" "$@"; mkdir -p runs/x; echo "$@" >>runs/x/starts'
FLAGS = ("--name=slice", "--zone=us-west4-a", "--type=v5litepod-16", "--poll=0")
RUN = ("--", "--flagfile=configs/bundled.flags", "--texts=it's a b.txt", "--out=runs/x")


@pytest.fixture
def cloud(stub, tmp_path, monkeypatch):
    """A function that sets the program of the workers; the cloud's directory is its attribute `folder`."""
    folder = tmp_path / "the cloud"
    (folder / "bucket").mkdir(parents=True)
    monkeypatch.setenv("CLOUD", str(folder))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    stub("gcloud", GCLOUD)
    stub("python3", "exit 0")  # pip install uv
    stub("mountpoint", "[[ -L $2 ]]")
    stub(
        "gcsfuse",
        'printf "%s\\n" "gcsfuse $*" >>"$CLOUD/log"; rmdir "${@: -1}"; ln -s "$CLOUD/bucket" "${@: -1}"',
    )
    (folder / "uv").write_text(UV)
    (folder / "uv").chmod(0o755)

    def program(body: str) -> Path:
        path = folder / "jaxcram"
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
        return folder

    return program


@pytest.fixture
def checkout(tmp_path):
    """A commit of its own, in a path with a space, so that what is here uncommitted does not matter."""
    folder = tmp_path / "my checkout"
    for name in ("launch", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"]):
        subprocess.run([*git, *command], check=True)
    return folder


def launch(checkout: Path, *argv: str) -> subprocess.CompletedProcess:
    command = [checkout / "launch" / "tpu_pod.sh", *argv]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=checkout.parent, timeout=100
    )


def verbs(cloud: Path) -> list[str]:
    """What gcloud was asked, without its looks at the state."""
    lines = [line.removeprefix("compute tpus ") for line in (cloud / "log").read_text().splitlines()]
    short = [" ".join(line.split()[:2]) for line in lines]
    return [line for line in short if not line.endswith("describe")]


def test_a_dry_run_prints_the_exact_commands(checkout, cloud, tmp_path):
    folder = cloud(DONE)
    done = launch(checkout, *FLAGS, "--spot", "--results=gs://b/p q", "--project=p", "--dry_run", *RUN)
    slice_state = (
        "gcloud compute tpus tpu-vm describe slice '--format=value(state)' --zone=us-west4-a --project=p"
    )
    queue_state = (
        "gcloud compute tpus queued-resources describe slice '--format=value(state.state)' --zone=us-west4-a "
        "--project=p"
    )
    ssh = "gcloud compute tpus tpu-vm ssh slice --worker=all --quiet"
    assert done.stdout.splitlines() == [
        f"git -C '{checkout}' archive --format=tar.gz --output={tmp_path}/slice.tar.gz HEAD",
        *(slice_state, queue_state),
        "gcloud compute tpus queued-resources create slice --node-id=slice --accelerator-type=v5litepod-16 "
        "--runtime-version=v2-alpha-tpuv5-lite --spot --zone=us-west4-a --project=p",
        *(slice_state, queue_state),
        f"gcloud compute tpus tpu-vm scp {tmp_path}/slice.tar.gz slice:jaxcram.tar.gz --worker=all --quiet "
        "--zone=us-west4-a --project=p",
        f"{ssh} '--command=mkdir -p jaxcram && tar -xzf jaxcram.tar.gz -C jaxcram && bash "
        "jaxcram/launch/tpu_worker.sh install '\\''gs://b/p q'\\''' --zone=us-west4-a --project=p",
        f"{ssh} '--command=bash jaxcram/launch/tpu_worker.sh run --flagfile=configs/bundled.flags "
        "'\\''--texts=it'\\''\\'\\'''\\''s a b.txt'\\'' --out=runs/x' --zone=us-west4-a --project=p",
        f"{ssh} '--command=bash jaxcram/launch/tpu_worker.sh status' --zone=us-west4-a --project=p",
        "mkdir -p runs",
        "gcloud storage rsync --recursive 'gs://b/p q' runs",
        "gcloud compute tpus queued-resources delete slice --force --quiet --zone=us-west4-a --project=p",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["bucket", "jaxcram", "uv"]


def test_a_run_from_the_slice_to_the_results(checkout, cloud):
    folder = cloud(DONE)
    done = launch(checkout, *FLAGS, "--collect=my results", *RUN)
    assert done.returncode == 0, done.stderr
    said = " cram --flagfile=configs/bundled.flags --texts=it's a b.txt --out=runs/x"
    # Both workers' logs come through.
    logs = sorted(line for line in done.stdout.splitlines() if " cram " in line)
    assert logs == [f"{folder}/slice/worker{i}/jaxcram{said}" for i in (0, 1)]
    assert (checkout.parent / "my results" / "x" / "starts").read_text() == f"{said[1:]}\n"
    assert verbs(folder) == [
        *("tpu-vm create", "tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm scp"),
        "tpu-vm delete",
    ]
    assert not (folder / "slice").exists()


@pytest.mark.parametrize("spot", [True, False])
def test_a_preempted_slice_is_recreated_and_the_run_resumes(spot, checkout, cloud):
    """The first time worker 1 is preempted in the middle; what the bucket holds by then is still there."""
    first = "[[ $HOME == *worker1 && ! -f $CLOUD/once ]] || exit 0"
    folder = cloud(f'{DONE}\n{first}\ntouch "$CLOUD"/{{once,preempt}}; kill -9 $PPID $$')
    argv = [*FLAGS, "--results=gs://bucket/a/b", *(["--spot"] if spot else [])]
    done = launch(checkout, *argv, "--restarts=1", *RUN)
    assert done.returncode == 0, done.stderr
    assert (
        "tpu_pod.sh: the run ended with exit code none; starting it again (0 restarts left)\n" in done.stderr
    )
    assert (checkout.parent / "runs" / "x" / "starts").read_text().count("\n") == 4
    group = "queued-resources" if spot else "tpu-vm"
    mounts = ["gcsfuse --implicit-dirs"] * 2
    once = [f"{group} create", "tpu-vm scp", "tpu-vm ssh", *mounts, "tpu-vm ssh", "tpu-vm ssh"]
    end = ["storage rsync", f"{group} delete"]
    assert verbs(folder) == [*once, f"{group} delete", *once, *end]
    mount = f"--only-dir=a/b bucket {folder}/slice/worker0/jaxcram/runs"
    assert mount in (folder / "log").read_text()


@pytest.mark.parametrize(
    ("program", "code", "starts"),
    [
        ('[[ $HOME == *worker0 ]] && exit 75; exit 2', 2, 1),
        ("exit 1", 1, 1),
        ("exit 130", 130, 1),
        ("exit 143", 143, 3),
        ('[[ $HOME == *worker0 ]] || exit 75', 75, 3),
    ],
)  # fmt: skip
def test_only_resumable_exit_codes_are_restarted(program, code, starts, checkout, cloud):
    folder = cloud(f'[[ $HOME == *worker0 ]] && echo start >>"$CLOUD/starts"\n{program}')
    done = launch(checkout, *FLAGS, "--restarts=2", "--keep", *RUN)
    assert done.returncode == code, done.stderr
    assert (folder / "starts").read_text() == "start\n" * starts
    assert (folder / "slice").exists()
    assert done.stderr.splitlines()[-1] == "tpu_pod.sh: the slice slice is kept, and is billed"


def test_a_run_whose_connection_broke_is_joined(checkout, cloud, stub):
    """The first `run` is cut off; the program goes on until it is joined, and is not started twice."""
    folder = cloud(
        'echo start >>"$HOME/starts"\n'
        "for _ in {1..1200}; do [[ -f $HOME/joined ]] && break; sleep 0.05; done\n"
        "echo end"
    )
    stub(
        "tail",
        'if [[ $* == *--follow* && ! -f $HOME/cut ]]; then touch "$HOME/cut"; sleep 0.5; exit 255; fi\n'
        '[[ $* != *--follow* ]] || touch "$HOME/joined"\n'
        'exec /usr/bin/tail "$@"',
    )
    done = launch(checkout, *FLAGS, "--keep", *RUN)
    assert done.returncode == 0, done.stderr
    assert [(folder / "slice" / f"worker{i}" / "starts").read_text() for i in (0, 1)] == ["start\n"] * 2
    assert done.stdout.splitlines() == ["end"] * 2


def test_another_run_on_the_slice_is_not_joined(checkout, cloud):
    folder = cloud('touch "$HOME/ready"; while [[ ! -f $CLOUD/end ]]; do sleep 0.05; done')
    other = subprocess.Popen(
        [checkout / "launch" / "tpu_pod.sh", *FLAGS, "--keep", "--", "--out=runs/y"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=checkout.parent,
    )  # fmt: skip
    wait_until(lambda: all((folder / "slice" / f"worker{i}" / "ready").exists() for i in (0, 1)))
    done = launch(checkout, *FLAGS, *RUN)
    (folder / "end").touch()
    assert other.wait(timeout=60) == 0
    complaint = (
        "tpu_pod.sh: error: another run is in progress on the slice slice; end it, or choose another --name"
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, complaint)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--zone=z"], "--name=NAME is required"),
        ([*FLAGS, "--name=A_b"], "--name=A_b: only lower-case letters, digits and hyphens"),
        ([*FLAGS, "--spott"], "--spott is not a flag of this program; write flags of jaxcram cram after --"),
        ([*FLAGS, "--restarts=some"], "--restarts=some is not a whole number"),
        ([*FLAGS, "--results=s3://x"], "--results=s3://x: write gs://BUCKET or gs://BUCKET/PATH"),
        (
            [*FLAGS, "--spot"],
            "--spot needs --results=gs://...: the disks of a preempted slice are deleted",
        ),
        ([*FLAGS, "--ref=no-such"], "--ref=no-such is not a commit here"),
        ([*FLAGS, "--", "--num_samples=1"], "the run's --out= must be given and be under runs/"),
        (
            [*FLAGS, "--", "--flagfile=configs/pythia_160m.flags", "--out=/tmp/x"],
            "the run's --out=/tmp/x must be given and be under runs/",
        ),
        (
            [*FLAGS, "--", "--flagfile=configs/none.flags"],
            "--flagfile=configs/none.flags is not in the commit HEAD",
        ),
    ],
)
def test_a_mistake_is_one_line(argv, complaint, checkout, cloud):
    folder = cloud(DONE)
    done = launch(checkout, *argv)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"tpu_pod.sh: error: {complaint}\n")
    assert not (folder / "log").exists()
