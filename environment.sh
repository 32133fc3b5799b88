#!/bin/sh
# Makes the environment of this project from the lock file. Usage: sh environment.sh FOLDER
set -eu
folder=$1

fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=
for name in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 python; do
    if command -v "$name" >/dev/null 2>&1 && fits "$name"; then python=$name; break; fi
done
if [ -z "$python" ]; then
    echo "error: no Python 3.11 or newer with venv was found; install one (Debian: apt-get install python3 python3-venv)," \
         "or name it: make PYTHON=/path/to/python3" >&2
    exit 1
fi

# An environment of another Python, or a half-made one, is made anew.
if ! { [ -x "$folder/bin/python" ] && fits "$folder/bin/python"; }; then
    rm -rf "$folder"
    echo "making the environment in $folder with $("$python" --version)"
    "$python" -m venv "$folder"
fi
echo "installing what requirements.lock lists (a few minutes and about 7 GB the first time)"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
