#!/usr/bin/env bash
# Measures the peers' predict_proba: ./run.sh WORKDIR > peers.json
# Makes WORKDIR/venv the first time. Only the JSON document goes to stdout. PYTHON names the
# interpreter (3.11); gcc is needed for tl2cgen.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?usage: run.sh WORKDIR}
mkdir -p "$work"
if [ ! -x "$work/venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$work/venv" >&2
fi
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: \
    -r "$here/requirements.txt" >&2
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
exec "$work/venv/bin/python" "$here/kernels.py" "$work"
