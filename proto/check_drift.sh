#!/bin/sh
# Fail when ravan/wire is not what proto/ generates.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
PATH="$(dirname "$PYTHON"):$PATH" sh proto/generate.sh "$fresh" 2>/dev/null
for file in "$fresh"/ravan/wire/v1/*; do
    if ! cmp -s "$file" "ravan/wire/v1/$(basename "$file")"; then
        echo "ravan/wire/v1/$(basename "$file") is stale: run 'make proto' and commit the result" >&2
        exit 1
    fi
done
for file in ravan/wire/v1/*_pb2*.py*; do
    test -e "$fresh/$file" || { echo "$file has no source in proto/: delete it" >&2; exit 1; }
done
