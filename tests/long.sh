#!/usr/bin/env bash
# The tests that take too long for every change, by name or all of them:
#
#   bash tests/long.sh             all
#   bash tests/long.sh nat::       those with this in their name: here the matrix of address translation
#
# They are the tests marked `#[ignore]`. What they print is shown, since they are run to be read.
# They need what `tests/run.sh` installs.
set -euo pipefail
cd "$(dirname "$0")/.."

exec cargo nextest run --locked --run-ignored only --test-threads 1 --success-output final "$@"
