#!/usr/bin/env bash
# Resolves pyproject.toml into requirements.lock, with the hash of every file (needs uv). Versions that are locked and
# still fit stay: name packages to upgrade them (infra/lock.sh --upgrade-package NAME), or --upgrade for all.
# opencv-python is left out on purpose: insightface requires it, but it needs the system's libGL; the headless wheel has
# the same module cv2. torch, of which the index chooses the build, and what only its CUDA build needs have locks of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
# version 1.3 does not support Python 3.11: pip respects this, uv does not
echo 'backports-strenum<1.3' > "$scratch/constraints"
cat requirements*.lock > "$scratch/resolved"
uv pip compile -c "$scratch/constraints" --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url \
  --no-header --no-annotate -q pyproject.toml -o "$scratch/resolved" "$@"
"${PYTHON:-python3}" infra/split_lock.py "$scratch/resolved" "${PIP_FIND_LINKS:-}"
