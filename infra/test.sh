#!/usr/bin/env bash
# Runs the tests in two processes: those that use Ray or Prefect's server (marked `ray`, by tests/conftest.py where it is
# forgotten), so that each service starts once, and beside them all others. Prints both outputs, one after the other.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python
# OpenMP's threads spin while they wait; of two processes on the same cores, each then takes them from the other
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
unset PYTHONDONTWRITEBYTECODE  # some images set it; each of the many processes would then compile every module anew
output=$(mktemp)
"$python" -m pytest -q -m "ray and not soak" > "$output" 2>&1 &
services=$!
trap 'kill "$services" 2>/dev/null; rm -f "$output"' EXIT
"$python" -m pytest -q -m "not ray and not soak"; others=$?
wait "$services"; with_ray=$?
cat "$output"
exit $((others > with_ray ? others : with_ray))
