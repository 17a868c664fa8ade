# make demo: set up, then the main job.
# make check: the format, the lints, the types and the fast tests. make test: make check, then the slow tests.
# make faults: the tests that kill, cut or spoil something on purpose, and counts of those that are generated.
# make test-vllm: the tests of the real vLLM, on a CPU, in .venv-vllm, which it sets up first.
# make system: what tests use beyond Python and make, by apt-get; they skip, and say why, where it is missing.
# make report: the published comparison on the embedded suite, 180 runs, about an hour on two cores.
# make lock: write down the versions that are installed in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests run in so many processes; worksteal keeps a file's tests together, and with them what they share.
WORKERS ?= 2
SPREAD := --numprocesses $(WORKERS) --dist worksteal
PYTEST := $(BIN)/pytest $(SPREAD) --ignore tests/vllm
export OMP_WAIT_POLICY := PASSIVE
export TOKENIZERS_PARALLELISM := false

.PHONY: demo lint check test faults test-vllm report lock setup system clean

demo: setup
	$(BIN)/hpa-bench run --method hpa

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(PYTEST) -m 'not slow and not faults'

test: check
	$(PYTEST) -m slow

faults: setup
	$(PYTEST) -m faults

test-vllm: $(VENV)-vllm/.installed
	$(VENV)-vllm/bin/pytest $(SPREAD) tests/vllm

# The s of safe_delta's code takes next to nothing at this scale; 1,000 was chosen on validation rows, seed 0, of 10 to 10,000.
CONTROLS := random_columns,random_columns:match=norm,magnitude_columns,relative_columns,scaled_update
CLOSE := hpa,seqft,safe_delta:s=1000,model_tailor,$(CONTROLS)
ABLATION := hpa:selection=safety_focused:orthogonal=false,hpa:selection=balanced:orthogonal=false
ABLATION := $(ABLATION),hpa:orthogonal=false,hpa:selection=none
SWEEP := hpa:p_max=7.5:p_min=2.5,hpa:p_max=30:p_min=10,hpa:p_max=45:p_min=15,hpa:p_max=60:p_min=20
COMPARE := $(BIN)/hpa-bench compare --seeds 0-2

report: setup
	$(COMPARE) --methods all,random_columns:match=norm,safe_delta:s=1000,$(ABLATION),$(SWEEP)
	$(COMPARE) --methods $(CLOSE),safe_delta --harmful-ratio 0.01
	$(COMPARE) --methods $(CLOSE) --order 6,5,4,3,2,1 --order 4,1,6,3,2,5
	$(BIN)/hpa-bench report runs/tiny --out reports/tiny

# A build's own mark (+cpu) is left out: which build of a version is taken is the reader's.
lock: setup
	$(BIN)/pip freeze --exclude-editable | sed 's/+.*//' > requirements-lock.txt

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)-vllm/.installed: pyproject.toml constraints-vllm.txt tests/vllm/make_environment.sh
	tests/vllm/make_environment.sh $(PYTHON) $(VENV)-vllm
	touch $@

# default-jre-headless: METEOR and the PTB tokenizer of pycocoevalcap are Java (tests/data/test_captions.py).
# mount: file systems that fill up (tests/machine/test_disk.py), which root alone may mount.
system: SUDO ?= $(if $(filter-out 0,$(shell id -u)),sudo)
system:
	@echo "Installing a Java runtime (caption metrics) and mount (full file systems)"
	$(SUDO) apt-get update
	$(SUDO) apt-get install --yes --no-install-recommends default-jre-headless mount

clean:
	rm -rf $(VENV) $(VENV)-vllm build dist *.egg-info
