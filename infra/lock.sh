#!/usr/bin/env bash
# Resolves pyproject.toml into requirements.lock (needs uv). These packages are left out on purpose:
#   torch, and packages that only its CUDA build needs: install.sh installs torch first, so that pip's index chooses the build;
#   opencv-python: insightface requires it, but it needs the system's libGL; the headless wheel has the same module cv2.
set -euo pipefail
cd "$(dirname "$0")/.."
# version 1.3 does not support Python 3.11: pip respects this, uv does not
constraints=$(mktemp); trap 'rm -f "$constraints"' EXIT
echo 'backports-strenum<1.3' > "$constraints"
uv pip compile -c "$constraints" --universal --python-version 3.11 --extra dev --no-emit-index-url --no-header --no-annotate -q pyproject.toml \
  | grep -vE '^(torch|opencv-python|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' > requirements.lock
