#!/usr/bin/env bash
# Runs the lints, where the toolchain has them: Debian's own compiler comes without clippy.
set -euo pipefail

if ! cargo clippy --version >/dev/null 2>&1; then
    echo "lint: NOT LINTED, this toolchain has no clippy (rustup component add clippy)" >&2
    exit 0
fi
exec cargo clippy --workspace --all-targets -- -D warnings
