# Each target makes .venv when it is missing and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

BENCHED := $(VENV)/.installed-bench

.PHONY: run test soak check format bench clean

run: $(STAMP)
	@$(BIN)/shardctl start --sandbox --foreground

test: $(STAMP)
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup

# What takes too long for every day: the bank (112,000 transfers, the broker killed 50 times,
# nodes 20 times), messages over 20 deaths of the broker, a broker on a log of 10,000,000 records
# (7 GB of disk), with their figures; 20 kills and 20 power cuts of the store, 2,000 seeds of the
# simulation; deaf shards in real time; hand-overs of shards and guilds. Some 20 minutes.
soak: $(STAMP)
	@SHARDCTL_BANK=full SHARDCTL_KILLS=20 SHARDCTL_RECORDS=10000000 SHARDCTL_SEEDS=2000 \
		SHARDCTL_HEARING=full SHARDCTL_HANDOVER=full SHARDCTL_LIFECYCLE=full \
		$(BIN)/python -m pytest -q -s \
		tests/fleet/test_bank.py tests/store/test_records_survival.py \
		tests/store/test_state_faults.py tests/peer/test_simulation.py tests/node/test_listening.py \
		tests/fleet/test_deaths.py tests/fleet/test_wall_clock_survival.py \
		tests/node/test_moves.py tests/node/test_exile.py tests/node/test_exile_feeder.py \
		tests/node/test_hosting_processes.py tests/node/test_cold_resume.py tests/fleet/test_respawn.py tests/fleet/test_moves.py \
		tests/fleet/test_buttons.py tests/broker/test_scaling.py \
		tests/broker/test_migration.py tests/fleet/test_migrate.py \
		tests/fleet/test_lifecycle_soak.py \
		tests/fleet/test_chaos.py::test_a_broker_killed_under_load_loses_nothing_and_repeats_nothing

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/rules

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(BENCHED)
	@$(BIN)/python -m tests.bench.run $(BENCH)

clean:
	rm -rf $(VENV) build dist

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# The peers that ours is measured against: their clients, their servers.
$(BENCHED): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@command -v redis-server >/dev/null || test "$$(id -u)" != 0 || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server; }
	@command -v redis-server >/dev/null || \
		{ echo "redis-server is missing; run: sudo apt-get install redis-server" >&2; exit 1; }
	@touch $@
