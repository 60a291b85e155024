#!/usr/bin/env bash
# Makes .venv with pinned versions, once: a second call with the same pins installs nothing.
# venv + pip works everywhere; uv is used where it is on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}
torch=$(sed -nE 's/^ +"(torch==[^"]+)",$/\1/p' pyproject.toml)

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "ffavatar: $("$python" --version) is too old: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 2; }

pins=$(cat pyproject.toml requirements.lock infra/install.sh | sha256sum | cut -d' ' -f1)
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
# torch first and with what its build needs; then exactly the lock, which leaves out opencv-python for its headless twin
install "$torch"
install --no-deps -r requirements.lock
install --no-deps -e .
echo "$pins" > "$venv/installed"
