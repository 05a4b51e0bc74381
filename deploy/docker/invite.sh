#!/bin/sh
# Write a join string for each named site to FOLDER/SITE/join, once, readable by whoever runs the sites' containers.
#   usage: invite FOLDER SITE...
set -eu
umask 077
folder="$1"
shift
for site in "$@"; do
    target="$folder/$site/join"
    if [ ! -s "$target" ]; then
        ravan-coordinator token create --config "$RAVAN_FOLDER/coordinator.toml" --site "$site" >"$target.new"
        chmod 0444 "$target.new"
        mv "$target.new" "$target"
        echo "invited $site"
    fi
done
