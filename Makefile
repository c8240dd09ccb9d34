# The commands of this repository: `make help` lists them.
# Everything that a machine needs is installed by scripts/setup.sh, which each of them calls first.

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak bench deb check build clean

help: ## list the commands
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## install what this machine still lacks (Debian 12, root)
	@scripts/setup.sh

demo: setup ## back up a throw-away PostgreSQL, attack the backup, restore it, compare (DATABASE_URL: yours)
	cargo build --release --workspace --bins
	@scripts/demo.sh

test: setup check build ## all tests; they fail, and never skip, where something is missing
	cargo test --workspace

# One after the other, so that each has the machine and its line of counts to itself.
SOAK = crash:: forms:: powercut:: contention:: reference::

soak: setup build ## the tests that sweep and repeat, in full: up to an hour
	WORM_SOAK=1 cargo test --package system-tests --test system -- --test-threads=1 --nocapture $(SOAK)

bench: setup ## measure against the same work done natively, release build (PART=store|agent: that part alone)
	cargo build --release --workspace --bins
	@scripts/bench.sh $(PART)

check: setup ## formatting and lints
	cargo fmt --all --check
	@scripts/lint.sh

# The system tests run the programs of other packages, so these are built first.
build: setup ## the programs, for testing, in target/debug
	cargo build --workspace --bins

deb: setup ## the Debian package, in target/debian
	@scripts/deb.sh

clean: ## remove what was built
	cargo clean
