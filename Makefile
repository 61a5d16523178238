# `make demo` distils two students from one cache of real images; `make test` runs every check; `make kernels` runs the
# numerical tests as other processors compute. All make .venv first. `make test TYPES=1` takes half as long again: each call's
# types and shapes are checked.
PYTHON ?= python3
RUN := .venv/bin/python
# the optional packages that tests need
EXTRAS := dev efficientnet opencv pq ray tensorboard

# what compares numbers with numbers: kernels of another instruction set add up in another order
NUMERIC := tests/distill tests/evaluate tests/end_to_end/test_exactness.py \
	$(wildcard $(addprefix tests/contract/test_,codec_contract.py open.py same_bytes.py)) \
	$(wildcard $(addprefix tests/shards/test_,*codecs.py kept_sets.py recompute.py)) \
	$(wildcard $(addprefix tests/extract/test_,data2vec2_*.py beitv2.py hugging_face_teachers.py dense_targets.py \
	kept_tokens.py networks.py teachers.py efficientnet_lite0.py pipeline.py bad_images.py augment.py))

ifdef TYPES
CHECKED := --jaxtyping-packages=shards,extract,distill,evaluate,beartype.beartype
endif

.PHONY: demo test kernels lint lock audit clean

.venv: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --require-hashes --requirement constraints.txt
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv
	rm -rf demo
	$(RUN) -m extract --teacher none --data digits --out demo/shards --view size=16 --views 4
	$(RUN) -m extract --teacher none --data digits --out demo/shards --split validation
	$(RUN) -m distill --shards demo/shards --recipe supervised --run_dir demo/runs/teacher
	$(RUN) -m extract --teacher run:demo/runs/teacher --out demo/shards
	$(RUN) -m extract --teacher run:demo/runs/teacher --out demo/shards --split validation
	$(RUN) -m distill --shards demo/shards --run_dir demo/runs/student-resnet8
	$(RUN) -m distill --shards demo/shards --student convnet:width=16 --run_dir demo/runs/student-convnet
	$(RUN) -m evaluate --run demo/runs/teacher --task accuracy
	$(RUN) -m evaluate --run demo/runs/student-resnet8 --task accuracy,fidelity
	$(RUN) -m evaluate --run demo/runs/student-convnet --task accuracy,fidelity
	$(RUN) -m evaluate --runs demo/runs

lint: .venv
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test: lint
	$(RUN) -m pytest -n auto $(CHECKED)

# with every instruction set but this processor's own, which `make test` runs with
kernels: .venv
	set -e; own=$$($(RUN) -c 'import torch; print(torch.backends.cpu.get_cpu_capability().lower())'); \
	for kernels in default avx2; do \
		[ $$kernels = $$own ] || ATEN_CPU_CAPABILITY=$$kernels $(RUN) -m pytest -n auto $(CHECKED) $(NUMERIC); \
	done

# every version and hash that .venv is made of, on any system; UPGRADE=--upgrade takes the newest
lock:
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet uv
	.lock/bin/uv pip compile pyproject.toml $(addprefix --extra ,$(EXTRAS)) --universal --python-version 3.11 --generate-hashes \
		--no-annotate --quiet $(UPGRADE) --custom-compile-command 'make lock' --output-file constraints.txt
	rm -rf .lock

# what is known against the pins and not answered in docs/dependencies.md; ADVISORIES=FOLDER asks a copy of
# github.com/pypa/advisory-database instead of PyPI. Strict: a pin that the database could not be asked about is a failure
audit: .venv
ifdef ADVISORIES
	$(RUN) -m tests.advisories $(ADVISORIES)
else
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet pip-audit
	.lock/bin/pip-audit --strict --require-hashes --disable-pip --requirement constraints.txt \
		$(addprefix --ignore-vuln ,$(shell grep -E '^\| [a-z0-9-]+ \| PYSEC' docs/dependencies.md | grep -oE 'PYSEC-[0-9]+-[0-9]+' | LC_ALL=C sort -u))
	rm -rf .lock
endif

clean:
	rm -rf .venv demo
