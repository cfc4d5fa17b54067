#!/usr/bin/env bash
# Runs bench.py with the packages it needs: ./run.sh WORKDIR ARGUMENTS...
# Makes WORKDIR/venv the first time. Only what bench.py prints goes to stdout. PYTHON names the interpreter.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?usage: run.sh WORKDIR ARGUMENTS...}
shift
mkdir -p "$work"
if ! cmp -s "$here/requirements.txt" "$work/installed.txt"; then
    "${PYTHON:-python3}" -m venv "$work/venv" >&2
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: \
        -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$work/installed.txt"
fi
exec "$work/venv/bin/python" "$here/bench.py" "$@"
