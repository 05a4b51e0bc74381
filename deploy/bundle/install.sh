#!/bin/sh
# Installs ravan-agent from this folder, without a network.
#
#   ./install.sh [--prefix /opt/ravan] [--public-key FILE] [--python python3]
#
# With --public-key the signature of the bundle is checked as well. Get that file by another way than the bundle.
set -eu

prefix=/opt/ravan
public_key=
python=python3
fail() { echo "Error: $1" >&2; echo "$2" >&2; exit 1; }
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || fail "$1 needs a value." "See the head of this file."
    case $1 in
        --prefix) prefix=$2 ;;
        --public-key) public_key=$(readlink -f -- "$2") ;;
        --python) python=$2 ;;
        *) fail "$1 is no option." "See the head of this file." ;;
    esac
    shift 2
done
case $prefix in
    /*) ;;
    *) prefix=$PWD/$prefix ;;
esac
cd -- "$(dirname -- "$0")"

if [ -n "$public_key" ]; then
    command -v openssl > /dev/null || fail "Checking the signature needs openssl." "Check it on another PC, see the manual."
    openssl pkeyutl -verify -pubin -inkey "$public_key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig > /dev/null 2>&1 ||
        fail "The bundle is not signed by this key." "Do not install it. Ask who made it for a new copy."
    echo "The signature is good."
else
    echo "The signature is not checked: no --public-key."
fi
sha256sum --check --strict --quiet SHA256SUMS ||
    fail "A file of the bundle is damaged or missing." "Copy the bundle again."
echo "All files are whole."

"$python" - << 'END' || fail "The bundle does not fit this PC." "Ask for one for this system and Python, or name another with --python."
import json, platform, sys

wanted = json.load(open("bundle.json", encoding="ascii"))
here = {"python": "%d.%d" % sys.version_info[:2], "system": platform.system(), "machine": platform.machine()}
different = [name for name in here if here[name] != wanted[name]]
for name in different:
    print("It is for %s %s; here is %s." % (name, wanted[name], here[name]), file=sys.stderr)
sys.exit(bool(different))
END

umask 022
"$python" -m venv "$prefix/venv" ||
    fail "There is no venv in this Python." "Install the system's package for it, such as python3-venv."
# Isolated: no index, no setting of this PC and no other file than those that were just checked.
pip() { "$prefix/venv/bin/python" -m pip --isolated --disable-pip-version-check --quiet "$@"; }
pip install --no-index --no-deps --require-hashes --find-links wheels --requirement requirements.txt
pip check
if [ -d model/blobs ]; then
    mkdir -p "$prefix/cache"
    cp -R model/blobs "$prefix/cache/"
fi
"$prefix/venv/bin/ravan-agent" --version
cat << END
Installed in $prefix. Next, with the join string from headquarters:
    $prefix/venv/bin/ravan-agent enroll - --dir $prefix
    then tell it in $prefix/agent.toml where the data lie,
    give the folder to a user of its own (chown -R USER: $prefix), and
    $prefix/venv/bin/ravan-agent service install --config $prefix/agent.toml
END
