#!/bin/sh
# Prepares .venv from the lock files: scripts/setup.sh run|dev
# Needs Python 3.11 to 3.13 with venv; PYTHON names another one. Does nothing when the locks have not changed.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-run}
case $kind in
  run) locks="requirements.lock" ;;
  dev) locks="requirements-dev.lock requirements-schema.lock" ;;
  *) echo "setup: say run or dev, not $kind" >&2; exit 2 ;;
esac

# shellcheck disable=SC2086  # the names of the lock files hold no blanks
wanted="$kind $(cat $locks pyproject.toml | cksum)"
if [ -x .venv/bin/python ] && [ -f .venv/abeyance-setup ]; then
  have=$(cat .venv/abeyance-setup)
  # What a developer has set up also runs the product.
  [ "$have" = "$wanted" ] && exit 0
  if [ "$kind" = run ]; then
    case $have in dev*) kind=dev; locks="requirements-dev.lock requirements-schema.lock"
      wanted="dev $(cat $locks pyproject.toml | cksum)"; [ "$have" = "$wanted" ] && exit 0 ;; esac
  fi
fi

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  found=""
  without_venv=""
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in 3.11|3.12|3.13) ;; *) continue ;; esac
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then found=$candidate; break; fi
    without_venv=$version
  done
  if [ -z "$found" ]; then
    if [ -n "$without_venv" ]; then
      echo "setup: Python $without_venv cannot make virtual environments: install python$without_venv-venv (Debian, Ubuntu) and run this again" >&2
    else
      echo "setup: no Python 3.11, 3.12 or 3.13 found: install python3 and python3-venv, or set PYTHON=/path/to/python3" >&2
    fi
    exit 1
  fi
  echo "Preparing .venv with $("$found" --version) ..." >&2
  "$found" -m venv --clear .venv
fi

echo "Installing the locked packages ..." >&2
set --
for lock in $locks; do set -- "$@" -r "$lock"; done
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: "$@" 2>.venv/setup.log \
  || { tail -n 5 .venv/setup.log >&2; echo "setup: the packages could not be installed; is a package index reachable?" >&2; exit 1; }
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e . 2>>.venv/setup.log \
  || { tail -n 5 .venv/setup.log >&2; exit 1; }
echo "$wanted" > .venv/abeyance-setup
