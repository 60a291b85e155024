# `make demo` and `make test` need nothing done before them.
.DEFAULT_GOAL := help
VENV ?= .venv
export VENV
VIDEOS ?=

help:           ## what can be made
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 16

install:        ## make .venv with pinned versions (once)
	@infra/install.sh

demo: install   ## the whole loop on sample clips, or on your own: make demo VIDEOS=dir
	@"$(VENV)/bin/ffavatar" demo $(if $(VIDEOS),--videos "$(VIDEOS)")

test: install   ## every test that this machine can run
	@infra/test.sh

soak: install   ## the tests that take minutes each
	@"$(VENV)/bin/python" -m pytest -q -m soak

lint: install   ## ruff and the type checker
	@"$(VENV)/bin/python" -m ruff check .
	@"$(VENV)/bin/python" -m mypy ffavatar_model flows infra pipelines datasets/mfhq

lock:           ## resolve pyproject.toml anew (needs uv)
	@infra/lock.sh

audit:          ## known vulnerabilities of the locked versions (needs pip-audit, and an advisory database at hand)
	@pip-audit --disable-pip --require-hashes -r requirements.lock -r requirements.torch.lock

.PHONY: help install demo test soak lint lock audit
