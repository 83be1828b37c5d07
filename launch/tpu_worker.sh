#!/usr/bin/env bash
# The part of tpu_pod.sh that runs on every worker of a slice. The checkout is jaxcram/ in the home directory.
#
#   tpu_worker.sh install [gs://BUCKET[/PATH]]   install the package, and mount the bucket as jaxcram/runs
#   tpu_worker.sh run FLAGS                      start `jaxcram cram FLAGS`, or reconnect, and show its log
#   tpu_worker.sh status                         print "exit CODE" of the run, or "exit none"
#
# The run does not depend on a connection: if one breaks, the run continues, and `run` reconnects to it.
set -euo pipefail

checkout=$HOME/jaxcram
venv=$HOME/jaxcram-venv
state=$HOME/jaxcram-run # command, pid, log and exit code of the run

install() {
  # The slice's Python may be too old for the package; uv installs a newer one.
  python3 -m pip install --quiet --user uv
  local uv=$HOME/.local/bin/uv
  [[ -d $venv ]] || "$uv" venv --quiet --python=3.12 "$venv"
  "$uv" pip install --quiet --python="$venv/bin/python" --editable "${checkout}[tpu]"
  if (($#)); then
    mount_bucket "${1#gs://}"
  fi
}

mount_bucket() { # BUCKET[/PATH]
  local bucket=${1%%/*} path=
  [[ $1 != */* ]] || path=${1#*/}
  mkdir -p "$checkout/runs"
  if mountpoint --quiet "$checkout/runs"; then
    return
  fi
  if ! command -v gcsfuse >/dev/null; then
    echo "deb https://packages.cloud.google.com/apt gcsfuse-$(lsb_release --codename --short) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    curl --fail --silent --show-error https://packages.cloud.google.com/apt/doc/apt-key.gpg |
      sudo tee /etc/apt/trusted.gpg.d/gcsfuse.asc >/dev/null
    sudo apt-get update --quiet=2
    sudo apt-get install --quiet=2 gcsfuse
  fi
  # Checkpoints are directories, which are renamed when complete.
  gcsfuse --implicit-dirs --rename-dir-limit=100000 ${path:+--only-dir="$path"} "$bucket" "$checkout/runs"
}

run() {
  local command pid
  command=$(printf '%q ' "$@")
  mkdir -p "$state"
  if [[ -f $state/pid ]] && kill -0 "$(<"$state/pid")" 2>/dev/null; then
    if [[ $command != "$(<"$state/command")" ]]; then
      echo "tpu_worker.sh: error: another run is in progress here: $(<"$state/command")" >&2
      exit 3
    fi
  else
    rm -f "$state/exit"
    : >"$state/log" # must exist before tail starts
    printf '%s\n' "$command" >"$state/command"
    cd "$checkout"
    # shellcheck disable=SC2016  # the inner shell expands it
    setsid bash -c 'directory=$1; shift; code=0; "$@" || code=$?
      echo "$code" >"$directory/exit.new" && mv "$directory/exit.new" "$directory/exit"' \
      _ "$state" "$venv/bin/jaxcram" cram "$@" >"$state/log" 2>&1 </dev/null &
    echo $! >"$state/pid"
  fi
  pid=$(<"$state/pid")
  tail --lines=+1 --follow --sleep-interval=1 --pid="$pid" "$state/log"
  [[ -f $state/exit ]] && exit "$(<"$state/exit")"
  exit 75
}

status() {
  if [[ -f $state/exit ]]; then
    echo "exit $(<"$state/exit")"
  else
    echo 'exit none'
  fi
}

"$@"
