#!/bin/sh
# Write the Python code of proto/ into ravan/wire; `make proto` runs it, `make check` compares.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
out=${1:-.}
mkdir -p "$out"
"$python" -m grpc_tools.protoc -I proto --python_out="$out" --grpc_python_out="$out" \
    --mypy_out="$out" --mypy_grpc_out="$out" proto/ravan/wire/v1/*.proto
