#!/usr/bin/env bash
# Runs the lints: of the scripts, and of the Rust code where the toolchain can. Debian's own
# compiler comes without clippy.
set -euo pipefail
cd "$(dirname "$0")/.."

shellcheck -x scripts/*.sh .ci/run compose/*.sh compose/bin/*

if ! cargo clippy --version >/dev/null 2>&1; then
    echo "lint: NOT LINTED, this toolchain has no clippy (rustup component add clippy)" >&2
    exit 0
fi
exec cargo clippy --workspace --all-targets -- -D warnings
