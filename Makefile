# make setup | test | demo | soak | lint | docs | colcon-test | clean
PYTHON ?= python3
VENV ?= .venv
# TORCH_INDEX=URL of PyTorch's CPU wheel index (their "get started" page names it) avoids several GB of CUDA libraries; PIP_ARGS go to pip install.
TORCH_INDEX ?=
PIP_ARGS ?=
PYTEST_ARGS ?=
# Driving clip and photo of the demo: make demo PHOTO=me.jpg VIDEO=clip.mp4 (or CAMERA=0)
PHOTO ?=
VIDEO ?=
CAMERA ?=
# Length and seed of the endurance run: make soak SOAK_MINUTES=3
SOAK_MINUTES ?= 30
SOAK_SEED ?= 0
# Spinning OpenMP threads and BLAS threads for small matrices cost more than they bring on few, shared cores.
export OMP_WAIT_POLICY ?= passive
export OPENBLAS_NUM_THREADS ?= 1

RUN = $(CURDIR)/scripts/env.sh

.PHONY: setup test demo soak lint docs colcon-test clean

setup:
	@$(PYTHON) scripts/setup_venv.py --venv '$(VENV)' --torch-index '$(TORCH_INDEX)' --pip-args '$(PIP_ARGS)'

test: setup
	@$(RUN) python -m pytest $(PYTEST_ARGS)

demo: setup
	@PHOTO='$(PHOTO)' VIDEO='$(VIDEO)' CAMERA='$(CAMERA)' $(RUN) python scripts/demo.py

# Builder, driver and a camera at full rate with random changes; fails when something grows, stops or breaks. See out/soak/soak.png
soak: setup
	@$(RUN) python -m sega_ros.nodes.soak --minutes '$(SOAK_MINUTES)' --seed '$(SOAK_SEED)'

lint: setup
	@$(RUN) ruff check .
	@$(RUN) mypy

docs: setup
	@$(RUN) python scripts/write_ros_api.py
	@$(RUN) python scripts/draw_graph.py

# The same wheels, but built, installed and imported as a colcon workspace does it.
colcon-test: setup
	@$(RUN) scripts/colcon_test.sh

clean:
	rm -rf build install log .colcon out
