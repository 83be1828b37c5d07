#!/usr/bin/env bash
# Runs jaxcram on all workers of a Cloud TPU slice. The slice is created if it does not exist; if it is
# preempted, it is created again and the run resumes.
#
#   launch/tpu_pod.sh --name=NAME --zone=ZONE --type=TYPE [FLAGS] -- FLAGS OF jaxcram cram
#
#   --name=NAME         of the slice (and of its queued resource)
#   --zone=ZONE         such as us-west4-a
#   --type=TYPE         such as v5litepod-16 or v5p-8
#   --project=PROJECT   default: that of gcloud
#   --runtime=VERSION   software version of the slice; default: depends on the type
#   --spot              a spot slice, through a queued resource; needs --results
#   --results=gs://...  bucket, optionally with a path, to mount as runs/ on every worker
#   --collect=DIR       directory to which runs/ is copied at the end; default: runs
#   --ref=REF           commit of this checkout to install; default: HEAD
#   --restarts=N        of the run, after preemption or a lost worker; default: 10
#   --poll=SECONDS      between two checks of the slice; default: 30
#   --keep              do not delete the slice at the end
#   --dry_run           print the commands of a run without failures, and do nothing
#
# The run's --out must be under runs/. A slice's disks are deleted with it: only a bucket survives preemption,
# and a slice of several hosts needs the bucket as its shared directory.
#
# Exit codes: those of jaxcram cram; 2 also for an error in these flags, 1 if gcloud fails.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name='' zone='' type='' project='' runtime='' results='' collect=runs ref=HEAD
restarts=10 poll=30 spot=false keep=false dry_run=false
exec 3>&1 # output of a dry run, also from inside $(...)

main() {
  read_flags "$@"
  check_flags
  local archive code left=$restarts
  archive=${TMPDIR:-/tmp}/$name.tar.gz
  step git -C "$checkout" archive --format=tar.gz --output="$archive" "$ref"
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
  while :; do
    ensure_slice
    code=none
    if install "$archive"; then
      # The exit code of ssh to several workers is not reliable, so exit_code asks the workers.
      on_workers all "$(quoted bash jaxcram/launch/tpu_worker.sh run "${flags[@]}")" || [[ $? != 3 ]] ||
        mistake "another run is in progress on the slice $name; end it, or choose another --name"
      code=$(exit_code)
    fi
    [[ $code =~ ^(0|1|2|130)$ ]] && break
    if ((left == 0)); then
      say "the run ended with exit code $code, and $restarts restarts are used up"
      [[ $code == none ]] && code=75
      break
    fi
    left=$((left - 1))
    say "the run ended with exit code $code; starting it again ($left restarts left)"
    $dry_run || sleep "$poll"
  done
  collect || say "could not collect the results; they are in ${results:-runs/ of worker 0}"
  if $keep; then
    $dry_run || say "the slice $name is kept, and is billed"
  else
    remove
  fi
  return "$code"
}

read_flags() {
  local key
  while (($#)); do
    case $1 in
      --name=* | --zone=* | --type=* | --project=* | --runtime=* | --results=* | --collect=* | --ref=* | \
        --restarts=* | --poll=*)
        key=${1%%=*}
        printf -v "${key#--}" '%s' "${1#*=}"
        ;;
      --spot) spot=true ;;
      --keep) keep=true ;;
      --dry_run) dry_run=true ;;
      --help | -h)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
      --)
        shift
        flags=("$@")
        return
        ;;
      *) mistake "$1 is not a flag of this program; write flags of jaxcram cram after --" ;;
    esac
    shift
  done
  flags=()
}

check_flags() {
  [[ -n $name ]] || mistake '--name=NAME is required'
  [[ -n $zone ]] || mistake '--zone=ZONE is required'
  [[ -n $type ]] || mistake '--type=TYPE is required'
  [[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] || mistake "--name=$name: only lower-case letters, digits and hyphens"
  [[ $restarts =~ ^[0-9]+$ ]] || mistake "--restarts=$restarts is not a whole number"
  [[ $poll =~ ^[0-9]+$ ]] || mistake "--poll=$poll is not a whole number"
  [[ -z $results || $results == gs://?* ]] || mistake "--results=$results: write gs://BUCKET or gs://BUCKET/PATH"
  results=${results%/}
  if $spot && [[ -z $results ]]; then
    mistake '--spot needs --results=gs://...: the disks of a preempted slice are deleted'
  fi
  git -C "$checkout" rev-parse --quiet --verify "$ref^{commit}" >/dev/null || mistake "--ref=$ref is not a commit here"
  git -C "$checkout" diff --quiet "$ref" -- || say "uncommitted changes (against $ref) are not sent"
  check_out
  if [[ -z $runtime ]]; then
    case $type in
      v6e-*) runtime=v2-alpha-tpuv6e ;;
      v5p-*) runtime=v2-alpha-tpuv5 ;;
      v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
      *) runtime=tpu-ubuntu2204-base ;;
    esac
  fi
}

# A restart runs the same command, so --out must be given, and must be where results are kept.
check_out() {
  local word file out=
  for word in "${flags[@]}"; do
    case $word in
      --flagfile=*)
        file=$(git -C "$checkout" show "$ref:${word#*=}" 2>/dev/null) || mistake "$word is not in the commit $ref"
        file=$(sed -n 's/^--out=//p' <<<"$file" | tail --lines=1)
        out=${file:-$out}
        ;;
      --out=*) out=${word#*=} ;;
    esac
  done
  [[ $out == runs/?* ]] || mistake "the run's --out=$out must be given and be under runs/"
}

ensure_slice() {
  local slice queue
  while :; do
    slice=$(slice_state)
    queue=$(queue_state)
    case $slice/$queue in
      READY/*) return ;;
      /) create || failed "could not create the slice $name" ;;
      PREEMPTED/ | TERMINATED/ | STOPPED/ | FAILED/ | */FAILED | */SUSPENDED) remove ;;
      *) say "the slice $name is not ready (${slice:-none}${queue:+, queue: $queue})"; sleep "$poll" ;;
    esac
  done
}

slice_state() {
  if $dry_run; then
    step_gcloud tpu-vm describe "$name" '--format=value(state)'
    $created && echo READY
    return 0
  fi
  step_gcloud tpu-vm describe "$name" '--format=value(state)' 2>/dev/null || true
}

queue_state() {
  if $spot; then
    step_gcloud queued-resources describe "$name" '--format=value(state.state)' 2>/dev/null || true
  fi
}

created=false # in a dry run
create() {
  created=true
  if $spot; then
    step_gcloud queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
      --runtime-version="$runtime" --spot
  else
    step_gcloud tpu-vm create "$name" --accelerator-type="$type" --version="$runtime"
  fi
}

remove() {
  if $spot; then
    step_gcloud queued-resources delete "$name" --force --quiet
  else
    step_gcloud tpu-vm delete "$name" --quiet
  fi
}

install() { # ARCHIVE
  local unpack='mkdir -p jaxcram && tar -xzf jaxcram.tar.gz -C jaxcram'
  step_gcloud tpu-vm scp "$1" "$name:jaxcram.tar.gz" --worker=all --quiet &&
    on_workers all "$unpack && $(quoted bash jaxcram/launch/tpu_worker.sh install ${results:+"$results"})"
}

on_workers() { # WORKERS COMMAND
  step_gcloud tpu-vm ssh "$name" --worker="$1" --quiet --command="$2"
}

# The exit code of the run: a user error or a bug on any worker decides, since the others then only lost a process.
exit_code() {
  local codes code
  codes=$(on_workers all 'bash jaxcram/launch/tpu_worker.sh status') || codes=
  $dry_run && codes='exit 0'
  codes=$(sed -n 's/^exit //p' <<<"$codes")
  for code in 2 1 130; do
    if grep --quiet --line-regexp "$code" <<<"$codes"; then
      echo "$code"
      return
    fi
  done
  codes=$(grep --invert-match --line-regexp --max-count=1 0 <<<"${codes:-none}" || true)
  echo "${codes:-0}"
}

collect() {
  step mkdir -p "$collect"
  if [[ -n $results ]]; then
    step gcloud storage rsync --recursive "$results" "$collect"
  else
    step_gcloud tpu-vm scp "$name:jaxcram/runs/*" "$collect" --recurse --worker=0 --quiet
  fi
}

interrupted() { # CODE
  trap '' INT TERM
  say "interrupted; the run continues and the slice is billed. The same command reconnects; to end both:"
  dry_run=true
  exec 3>&2
  remove
  exit "$1"
}

step_gcloud() { # GROUP VERB ARGUMENTS
  step gcloud compute tpus "$1" "$2" "${@:3}" --zone="$zone" ${project:+--project="$project"}
}

step() {
  if $dry_run; then
    printf '%s\n' "$(quoted "$@")" >&3
  else
    "$@"
  fi
}

quoted() { # the arguments, quoted for a shell
  local word line='' quote="'\\''"
  for word; do
    [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word="'${word//\'/$quote}'"
    line+="$word "
  done
  printf '%s' "${line% }"
}

say() { printf 'tpu_pod.sh: %s\n' "$1" >&2; }

mistake() {
  say "error: $1"
  exit 2
}

failed() {
  say "error: $1"
  exit 1
}

main "$@"
