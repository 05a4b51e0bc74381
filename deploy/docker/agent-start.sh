#!/bin/sh
# Enrol with the join string at the first start, then run.
#   JOIN_FILE      holds the join string; waited for
#   DATA_TABLES    what agent.toml is to say of the site's data, added once
#   RAVAN_FOLDER   the agent's folder, on a volume
set -eu
config="$RAVAN_FOLDER/agent.toml"
if [ ! -e "$config" ]; then
    : "${JOIN_FILE:?Set JOIN_FILE to a file with the join string of this site.}"
    until [ -s "$JOIN_FILE" ]; do
        echo "waiting for the join string in $JOIN_FILE"
        sleep 2
    done
    ravan-agent enroll - --dir "$RAVAN_FOLDER" <"$JOIN_FILE"
    if [ -n "${DATA_TABLES:-}" ]; then
        cat "$DATA_TABLES" >>"$config"
    fi
fi
exec ravan-agent run --config "$config"
