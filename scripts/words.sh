#!/bin/sh
# Collects every sentence that customers read, brings the catalogs up to date with them and compiles these.
# With a language, such as `sh scripts/words.sh fr`, begins its catalog first.
set -eu
cd "$(dirname "$0")/.."
babel=.venv/bin/pybabel
found=$(mktemp)
trap 'rm -f "$found"' EXIT

"$babel" -q extract -F pyproject.toml --add-location=file --project=Abeyance --version=0.1 --msgid-bugs-address=- \
  --copyright-holder="the authors of Abeyance" -o "$found" api billing reconciler
[ $# -eq 0 ] || "$babel" -q init -i "$found" -d billing/locales -l "$1"
"$babel" -q update -i "$found" -d billing/locales --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date
"$babel" compile -d billing/locales --statistics
