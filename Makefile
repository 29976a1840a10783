# Everything runs in .venv, made on first use. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo search test test_transformers test_installed docs check fix tiny tiny_large tiny_lm towers tables benchmark \
	clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z_]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## make .venv and install the project with its tested versions
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/installed  ## zero-shot CLIP, CoOp, CoCoOp and MaPLe on drawn images: a table and a plot, a few minutes on two cores
	@echo "16 runs, two at a time, about three and a half minutes on two cores; one line each:"
	$(BIN)/python run.py -m experiment=demo
	$(BIN)/python report.py outputs/demo

# Methods whose settings on the embedded world are searched for, and those that are pretrained as well.
SEARCHED := coop cocoop kgcoop maple ivlp vpt promptsrc pomp rpp dpl aape aape_residual
PRETRAINED := pomp rpp

search: .venv/installed  ## search the settings of the embedded world anew, about half an hour on two cores
	for method in $(SEARCHED); do $(BIN)/python run.py -m experiment=embedded_search method=$$method || exit 1; done
	for method in $(PRETRAINED); do \
		$(BIN)/python run.py -m experiment=embedded_search_pretraining method=$$method || exit 1; done
	$(BIN)/python -m tools.embedded_recipes outputs/embedded_search

test: .venv/installed  ## the whole test suite, two processes at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

TRANSFORMERS := every_architecture kinds training_kinds transformers_weights preprocessing tokenizers tokenizer_files
TRANSFORMERS += language_model language_model_files
LANGUAGE := lightning_modules/test_caption_metrics lightning_modules/test_caption_tokens lightning_modules/test_captioning test_language_processes
LANGUAGE += prompts/test_limber security/test_language_models tools/test_tiny_lm
test_transformers: .venv/installed  ## the tests of transformers' towers, tokenizers and language models, with their packages, which slow all imports
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[transformers,lm]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(TRANSFORMERS:%=tests/prompts/engine/test_%.py) \
		tests/security/test_text_configs.py tests/security/test_transformers_configs.py $(LANGUAGE:%=tests/%.py)

test_installed: .venv/installed  ## build sdist and wheel, use the package from an empty folder, and export what every method learns
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export]' build
	BUILD=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/test_installed.py tests/tools/test_export.py

docs: .venv/installed  ## build the site of docs/ in build/site, strictly; write docs/reference*.md, run the notebook and every command
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	DOCS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/docs

check: .venv/installed  ## lint, formatting, types, lengths and docstrings, dead links, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/check_limits.py
	$(BIN)/python .ci/check_links.py

fix: .venv/installed  ## lint and formatting, fixed where that is safe
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

towers: .venv/installed  ## write the table of docs/towers.md again, from every architecture that open_clip has
	OMP_NUM_THREADS=1 WRITE_TOWERS=1 $(BIN)/python -m pytest -q tests/prompts/engine/test_every_architecture.py

tiny: .venv/installed  ## train the tiny CLIP again (about a quarter of an hour on two cores)
	$(BIN)/python -m tools.tiny_clip

tiny_large: .venv/installed  ## train the tiny CLIP's teacher again (about three quarters of an hour on two cores)
	$(BIN)/python -m tools.tiny_clip --model tiny_large

tiny_lm: .venv/installed  ## train the embedded language model again (about a quarter of an hour on one core)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lm]'
	$(BIN)/python -m tools.tiny_lm

tables: .venv/installed  ## run every table of the embedded world, and write them to docs/claims.md, README.md and docs
	@for file in conf/experiment/table-*.yaml; do \
		$(BIN)/python run.py -m experiment=$$(basename $$file .yaml) || exit 1; done
	$(BIN)/python -m tools.tables outputs/tables

BENCHMARKS := text_engine released exact_softmax feature_store retrieval captioning split scale cost data startup
benchmark: .venv/installed  ## every benchmark of docs/performance.md, one after the other, well over half an hour on two cores
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:  ## remove .venv and caches; results stay
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
