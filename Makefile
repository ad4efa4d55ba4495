# Two commands set up everything: `make repro` and `make test`. PYTHON is any Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: repro test test-all lint fuzz bench gpu results faults docs deps lock wheel image-check audit licences sbom clean

# The environment is made anew whenever the lock or the project's metadata change.
.venv/done: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=...')"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Without a .git folder (an unpacked archive) DVC has to be told so.
repro: .venv/done
	@if [ -e .git ]; then $(BIN)/dvc config --local --unset core.no_scm 2>/dev/null || true; \
	else $(BIN)/dvc config --local core.no_scm true; fi
	$(BIN)/dvc repro
	@echo "The scores (artifacts/scores.json):"
	@$(BIN)/attcli evaluate --no-auto 2>/dev/null

lint: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# The tests with those that take longer: more networks, a killed process of several, and others.
test-all: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Cases of hostile input by hypothesis, some 10,000 in half an hour; SEED chooses others. Writes a record to FUZZ_RECORD.
SEED ?= 0
FUZZ_RECORD ?= build/fuzz.json
fuzz: .venv/done
	mkdir -p $(dir $(FUZZ_RECORD))
	$(BIN)/python -m tests.fuzz --seed $(SEED) --jobs 2 --json $(FUZZ_RECORD)

bench: .venv/done
	$(BIN)/python -m benchmarks

# For a machine with a GPU: the quick tests of all that computes, which then run on the GPU, and the times of
# docs/performance.md, as build/gpu-*.json.
GPU_TESTS = matching objectives parameterisations storage trainers scoring stages methods golden baselines
gpu: .venv/done
	$(BIN)/pytest -n 8 -m "not slow" $(GPU_TESTS:%=tests/%) tests/test_*.py
	mkdir -p build
	for execution in eager graph compiled reference; do \
		$(BIN)/python -m benchmarks.gpu --execution $$execution --json build/gpu-$$execution.json || exit; done
	$(BIN)/python -m benchmarks.steps --json build/gpu-steps.json

# Writes docs/results.md from its template and benchmarks/records.
results: .venv/done
	$(BIN)/python -m benchmarks.results

# Tries every fault many times, and writes its record and docs/reliability.md: half an hour on a free core. Needs Linux, and
# root for small disks and PID namespaces. PARTS="kills storms" tries these parts alone.
faults: .venv/done
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.campaign $(PARTS)

# Builds the site of all pages in build/site; a broken link is an error.
docs: .venv/done
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

# Writes the modules that each stage imports into dvc.yaml.
deps: .venv/done
	$(BIN)/python -m tests.dvc_deps

# Needs uv (pip install uv). Universal, hashed, and without the names of the hosts it was made with. With the extras that
# `make repro`, `make test` and the container use. The other two locks take their versions from the first: one has what the
# container needs of it, the other the tools that build the container and watch over what it holds.
UV_COMPILE = uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11
lock:
	$(UV_COMPILE) --group dev --extra dvc --extra plots --extra timm pyproject.toml -o requirements.lock
	$(UV_COMPILE) --no-annotate --extra dvc --extra plots --extra timm -c requirements.lock pyproject.toml \
		-o requirements-image.lock
	$(UV_COMPILE) --no-annotate --group tools -c requirements.lock -o requirements-tools.lock

# Shows that the wheel works alone: builds it, installs it with what it declares, distils and scores the digits. Downloads
# 5 GB, unless TORCH_FROM names a site-packages folder whose torch is used.
wheel: .venv/done
	rm -rf build/wheel
	$(BIN)/python -m tests.wheel build/wheel $(if $(TORCH_FROM),--torch-from $(TORCH_FROM))

# Builds the container image without a Docker engine and tries it out (docs/running/containers.md). Needs root on Debian
# or Ubuntu, 35 GB of disk and an hour. BASE_IMAGE names another base image than the one it makes, TORCH_WHEELS an index
# or a folder with torch's builds for CPUs, which make a small image.
image-check: .venv/done
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m checks.image $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) \
		$(if $(TORCH_WHEELS),--torch-from $(TORCH_WHEELS))

# Compares the locks with known vulnerabilities; says so in one line where these cannot be had.
audit: .venv/done
	$(BIN)/python -m checks.audit

# Writes docs/licences.md; an unexpected licence is an error.
licences: .venv/done
	$(BIN)/python -m checks.licences

# Lists what the image's lock holds, as CycloneDX in build/attcli.cdx.json.
sbom: .venv/done
	$(BIN)/python -m checks.sbom build/attcli.cdx.json

# Takes the results with it.
clean:
	rm -rf .venv build dist artifacts .attcli
