#!/bin/sh
# Prepares .venv from the lock files: scripts/setup.sh run|dev, or .venv-foreign for tools of others: scripts/setup.sh foreign
# Needs Python 3.11 to 3.13 with venv; PYTHON names another one. Does nothing when nothing has changed since the last time.
set -eu
unset CDPATH PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET
export PIP_USER=0  # a pip.conf with `user = true` would refuse to install into .venv
cd "$(dirname "$0")/.."
dev_locks="requirements-dev.lock requirements-schema.lock requirements-peer.lock"

fail() { echo "setup: $1" >&2; exit 1; }

kind=${1:-run}
venv=.venv
case $kind in
  run) locks=requirements.lock ;;
  dev) locks=$dev_locks ;;
  foreign) locks=requirements-foreign.lock venv=.venv-foreign ;;
  *) echo "setup: say run, dev or foreign, not $kind" >&2; exit 2 ;;
esac
log=$venv/setup.log
marker=$venv/abeyance-setup
unfinished=$venv/abeyance-unfinished

# What the marker of a complete set-up holds: where it is and what it was made from. A .venv is full of absolute paths, so
# one that was moved or copied together with its checkout is not complete.
# shellcheck disable=SC2086  # the names of the lock files hold no blanks
wanted() { printf '%s\n' "$(pwd -P)" "$kind $(cat $locks pyproject.toml scripts/setup.sh | cksum)"; }

works() { [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null; }

ready() {
  [ -f "$marker" ] && [ ! -f "$unfinished" ] || return 1
  # What a developer has set up also runs the product.
  if [ "$kind" = run ] && grep -q '^dev ' "$marker"; then kind=dev locks=$dev_locks; fi
  [ "$(cat "$marker")" = "$(wanted)" ] && works
}

find_python() {
  without_venv=""
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in 3.11|3.12|3.13) ;; *) continue ;; esac
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$candidate; return; fi
    without_venv=${without_venv:-$version}
  done
  [ -z "$without_venv" ] || fail "Python $without_venv cannot make virtual environments: install python$without_venv-venv (Debian, Ubuntu), or set PYTHON=/path/to/python3, and run this again"
  fail "no Python 3.11, 3.12 or 3.13 was found: install python3 and python3-venv, or set PYTHON=/path/to/python3, and run this again"
}

# One set-up at a time in a checkout. The lock is the kernel's and ends with the processes that hold it, so it is never stale.
lock() {
  [ -w . ] && [ -w scripts/setup.sh ] || fail "$(pwd -P) is not writable, and $venv belongs into it: copy the checkout to a folder of your own"
  exec 9>>scripts/setup.sh
  "$python" -c '
import fcntl, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another set-up of this checkout ...", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks: then it is up to the people
'
}

# An interrupted set-up, a broken one and one from another place begin anew; anything else in .venv stays.
make_venv() {
  if [ -f "$unfinished" ] || ! works || { [ -f "$marker" ] && [ "$(head -n 1 "$marker")" != "$(pwd -P)" ]; }; then
    # Renamed first, so that an interrupted removal leaves nothing that looks like a .venv.
    if [ -e "$venv" ] || [ -L "$venv" ]; then mv "$venv" "$venv.old.$$" && rm -rf "$venv.old.$$"; fi
    echo "Preparing $venv with $("$python" --version) ..." >&2
    mkdir "$venv"
    : >"$unfinished"
    "$python" -m venv "$venv" >"$log" 2>&1 || fail "no virtual environment could be made with $python: $(last_line)"
  fi
  : >"$unfinished"
  rm -f "$marker"
}

# pip says last what went wrong.
last_line() { sed -n 's/^ERROR: //; /[^ ]/h; ${x;p;}' "$log"; }

install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps "$@" >"$log" 2>&1 && return
  rm -f "$unfinished"  # pip has put back what it had begun; only an interruption leaves half a package
  fail "the packages could not be installed: $(last_line); is a package index reachable? More is in $log"
}

ready && exit 0
find_python
trap 'echo "setup: interrupted; the next one begins anew" >&2; exit 130' INT
lock
ready && exit 0
make_venv
echo "Installing the locked packages ..." >&2
set --
for file in $locks; do
  [ "$file" = requirements-peer.lock ] || set -- "$@" -r "$file"
done
install --require-hashes --only-binary :all: "$@"
# Published as source alone: an archive of Python without a compiled part, built with the setuptools locked above.
# Without a cache, because a wheel that is built would be kept in a home that may not be writable.
case $locks in
  *requirements-peer.lock*) install --require-hashes --no-cache-dir --no-build-isolation -r requirements-peer.lock ;;
esac
[ "$kind" = foreign ] || install --no-build-isolation --no-index -e .
wanted >"$unfinished"
mv "$unfinished" "$marker"
