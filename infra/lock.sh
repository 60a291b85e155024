#!/usr/bin/env bash
# Resolves pyproject.toml anew into requirements.lock (needs uv). Left out on purpose:
#   torch and what only its CUDA build brings: installed first, by its own version, so that its index decides the build;
#   opencv-python: insightface asks for it, but its cv2 needs libGL from the system; the headless wheel gives the same cv2.
set -euo pipefail
cd "$(dirname "$0")/.."
# 1.3 says that it is not for Python 3.11, which uv overlooks and pip does not
constraints=$(mktemp); trap 'rm -f "$constraints"' EXIT
echo 'backports-strenum<1.3' > "$constraints"
uv pip compile -c "$constraints" --universal --python-version 3.11 --extra dev --no-emit-index-url --no-header --no-annotate -q pyproject.toml \
  | grep -vE '^(torch|opencv-python|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' > requirements.lock
