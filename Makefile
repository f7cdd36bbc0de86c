# Two commands: `make up` for a running cluster, `make test` for all tests.

.PHONY: up down test lint bench build clean

up: ## install what is missing, build, start a one-node cluster, run a sample
	@sh integration/scripts/prepare.sh up
	cargo build --release --locked --bin troupe
	./target/release/troupe up --sample

down: ## end the cluster; leave nothing behind
	@if [ -x target/release/troupe ]; then ./target/release/troupe down; else echo "nothing to end: troupe was not built here"; fi

build: ## build all programs
	@sh integration/scripts/prepare.sh build
	cargo build --release --locked --bins

test: ## every test, the end-to-end ones included
	@sh integration/scripts/prepare.sh test
	cargo build --locked --workspace --bins
	cargo test --locked --workspace --no-fail-fast

lint: ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

bench: ## ratios within one run
	@sh integration/scripts/prepare.sh up
	cargo bench --locked --workspace
