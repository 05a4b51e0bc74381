#!/bin/sh
# Found the coordinator at its first start, then serve.
#   COORDINATOR_HOSTS  names of this machine as agents reach it, the first for join strings
#   RAVAN_FOLDER       data folder, on a volume
set -eu
config="$RAVAN_FOLDER/coordinator.toml"
if [ ! -e "$config" ]; then
    : "${COORDINATOR_HOSTS:?Set COORDINATOR_HOSTS to the names of this machine as agents reach it, the first for join strings.}"
    for host in $COORDINATOR_HOSTS; do
        set -- "$@" --host "$host"
    done
    ravan-coordinator init "$RAVAN_FOLDER" "$@"
fi
exec ravan-coordinator serve --config "$config"
