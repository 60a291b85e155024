#!/usr/bin/env bash
# Makes .venv with pinned versions, once: a second call with the same pins installs nothing.
# venv + pip works everywhere; uv is used where it is on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "ffavatar: $("$python" --version) is too old: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 2; }

pins=$(cat pyproject.toml requirements*.lock infra/install.sh | sha256sum | cut -d' ' -f1)
[ "$(cat "$venv/installed" 2>/dev/null || true)" = "$pins" ] && exit 0

echo "ffavatar: installing pinned versions into $venv (about 3 GB; a few minutes with pip)"
if command -v uv >/dev/null 2>&1; then
  [ -x "$venv/bin/python" ] || uv venv -q --seed --python "$python" "$venv"
  # uv does not read pip's settings
  [ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS=${UV_FIND_LINKS:-$PIP_FIND_LINKS}
  install() { VIRTUAL_ENV=$venv uv pip install -q --python "$venv/bin/python" "$@"; }
else
  [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
  install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
fi
# Every file is held against its hash. The index chooses torch's build, CPU or CUDA, of which only the number is asked for:
# pip would prefer the files whose hashes an index states, and uv takes no build of another name than the lock's. The lock
# leaves out opencv-python for its headless twin.
builds=$(mktemp -d); trap 'rm -rf "$builds"' EXIT
torch=$(sed -nE 's/^(torch==[^ ]+).*/\1/p' requirements.torch.lock)
pip() { "$venv/bin/python" -m pip -q --disable-pip-version-check "$@"; }
pip download --no-deps -d "$builds" "$torch"
pip install --require-hashes --no-deps --no-index --find-links "$builds" -r requirements.torch.lock
install --require-hashes --no-deps -r requirements.lock
# torch's CUDA build asks for more than its CPU build; which of the two came, the index has chosen
if "$venv/bin/python" -c 'import importlib.metadata as m, sys; sys.exit("nvidia" not in str(m.requires("torch")))'; then
  install --require-hashes --no-deps -r requirements.cuda.lock
fi
install --no-deps --no-build-isolation -e .   # built with the locked setuptools
echo "$pins" > "$venv/installed"
