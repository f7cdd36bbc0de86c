# Two commands: `make up` for a running cluster, `make test` for all tests. A third, `make compose`, for many nodes.

.PHONY: up down test fuzz lint bench build compose compose-monitoring compose-down test-compose

up: ## install what is missing, build, start a one-node cluster, run a sample
	@sh integration/scripts/prepare.sh up
	cargo build --release --locked --bin troupe
	./target/release/troupe up --sample

down: ## end the cluster; leave nothing behind
	@if [ -x target/release/troupe ]; then ./target/release/troupe down; else echo "nothing to end: troupe was not built here"; fi

compose: ## three etcd members, a master, a registry and three nodes, each a container with its own network
	@sh integration/scripts/prepare.sh compose
	cargo build --release --locked --bins
	@sh integration/compose/up.sh

compose-monitoring: ## Prometheus beside them, scraping all of it
	@sh integration/compose/monitoring.sh

compose-down: ## end them; leave nothing behind
	@sh integration/compose/down.sh

test-compose: ## failures, on the cluster of `make compose`
	@sh integration/scripts/prepare.sh test-compose
	@sh integration/compose/test.sh

build: ## build all programs
	@sh integration/scripts/prepare.sh build
	cargo build --release --locked --bins

test: ## every test, the end-to-end ones included
	@sh integration/scripts/prepare.sh test
	cargo test --locked --workspace --no-fail-fast

fuzz: ## every decoder and patch path with made-up input, FUZZ_SECONDS (10) each
	@sh integration/scripts/prepare.sh fuzz
	@sh integration/scripts/fuzz.sh $(FUZZ_SECONDS)

lint: ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

bench: ## ratios within one run
	@sh integration/scripts/prepare.sh up
	cargo bench --locked --workspace
