# make demo: set up, then the main job. make test: set up, then every check and test.
# make report: the published comparison on the embedded suite, about half an hour on two cores.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test report setup clean

demo: setup
	$(BIN)/hpa-bench run --method hpa

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

report: setup
	$(BIN)/hpa-bench compare --methods zero_shot,seqft,joint,hpa,random_columns,random_columns:match=norm --seeds 0-2 \
		--out reports/tiny

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
