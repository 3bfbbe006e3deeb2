# The commands of this repository; `make` alone lists them.
#
# Everything is installed into .venv. A stamp file inside it says which extra is there, so a second run
# installs nothing, and a changed setup.cfg or constraints.txt installs what changed.

PYTHON ?= python3
MARKERS ?= not slow
WORKERS ?= 2

SHELL := bash
VENV := .venv
RUN := $(VENV)/bin/python
PEERS := .venv-peers
# The stamp names this folder: an environment that was copied along with the tree installs afresh,
# or it would import the code of the tree it came from.
CREATED := $(VENV)/.created-$(shell pwd | cksum | cut -d ' ' -f 1)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test bench lint cards wheel clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## Load, fine-tune, export and verify a shipped model; leaves demo_out/
	$(VENV)/bin/keras-vae demo --out demo_out

test: $(VENV)/.installed-test ## Run the fast test suite; MARKERS=slow runs the others
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKERS)" --durations=15

bench: $(VENV)/.installed-test $(PEERS)/.installed ## Measure speed beside PyTorch, pythae and stock Keras
	$(RUN) -m benchmarks.speed --again --peers $(PEERS)/bin/python

lint: $(VENV)/.installed-dev ## Check the style with ruff
	$(RUN) -m ruff check .

cards: $(VENV)/.installed-demo ## Write the model cards and README's table anew from the results
	$(RUN) -m keras_vae.zoo.card

wheel: $(VENV)/.installed-dev ## Build the source distribution, and from it the wheel, into dist/
	$(RUN) -m build --no-isolation

clean: ## Remove what the other commands made, all but .venv
	rm -rf build dist demo_out *.egg-info .pytest_cache .ruff_cache
	find keras_vae zoo export tests -name __pycache__ -prune -exec rm -rf {} +

# Each extra holds the one before it.
holds_demo := demo
holds_test := demo test
holds_dev := demo test dev

$(VENV)/.installed-%: setup.cfg constraints.txt $(CREATED)
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(call pip_install,--no-build-isolation -e '.[$*]')
	@touch $(addprefix $(VENV)/.installed-,$(holds_$*))

$(PEERS)/.installed: benchmarks/speed/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -r $<
	@touch $@

$(CREATED): | constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo "Python should be 3.11, 3.12 or 3.13. Received: PYTHON=$(PYTHON), which answers:"; \
		$(PYTHON) --version; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.11"; \
		exit 1; \
	} >&2
	$(PYTHON) -m venv $(VENV)
	$(call pip_install,setuptools)
	@touch $@

# pip warns once a package about each extra index that lacks it. Only that line is dropped: standard
# output stays a terminal, and the status stays pip's.
define pip_install
@set -o pipefail; { $(RUN) -m pip install -c constraints.txt $(1) 2>&1 1>&3 \
	| { grep -v "^WARNING: Location '.*' is ignored" || true; } >&2; } 3>&1
endef
