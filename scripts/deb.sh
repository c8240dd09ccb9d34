#!/usr/bin/env bash
# Builds the Debian package, with cargo-deb from crates.io, and prints where it is.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/tools
if [ ! -x "$tools/bin/cargo-deb" ]; then
    cargo install --quiet --locked --root "$tools" cargo-deb --version '^3.8'
fi
cargo build --release --workspace --bins
rm -rf "$target/manual"
"$target/release/worm-manual" "$target/manual"
"$tools/bin/cargo-deb" deb --package worm-packaging --no-build --output "$target/debian/"
