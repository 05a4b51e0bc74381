#!/bin/sh
# Found the coordinator at its first start, then serve; `coordinator-start found` only founds it.
#   COORDINATOR_HOSTS  names of this machine as agents reach it, the first for join strings
#   RAVAN_FOLDER       data folder, on a volume
#   RAVAN_CONFIG       configuration that lies elsewhere, instead of the one that is made in the folder
set -eu
config="$RAVAN_FOLDER/coordinator.toml"
only="${1:-}"
set --
if [ ! -e "$config" ]; then
    : "${COORDINATOR_HOSTS:?Set COORDINATOR_HOSTS to the names of this machine as agents reach it, the first for join strings.}"
    for host in $COORDINATOR_HOSTS; do
        set -- "$@" --host "$host"
    done
    ravan-coordinator init "$RAVAN_FOLDER" "$@"
    if [ -n "${RAVAN_CONFIG:-}" ]; then
        # Nobody shall take the defaults for what is in force.
        ln -sf "$RAVAN_CONFIG" "$config"
    fi
fi
[ "$only" = found ] || exec ravan-coordinator serve --config "${RAVAN_CONFIG:-$config}"
