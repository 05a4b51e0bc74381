#!/bin/sh
# Make the passwords of docker-compose.yml, once; what is there stays.
set -eu
folder="$(dirname "$0")/secrets"
umask 077
mkdir -p "$folder"
for name in database_password objects_secret grafana_password; do
    if [ ! -s "$folder/$name" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name"
        # Each container reads it as a user of its own; on this machine the folder keeps others out.
        chmod 0444 "$folder/$name"
        echo "made $folder/$name"
    fi
done
