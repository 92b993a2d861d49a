#!/bin/sh
# make-venv.sh PYTHON FOLDER: a virtual environment with pip, also where Python came without ensurepip (Debian).
set -eu
python=$1
folder=$2

if [ -z "$python" ]; then
    echo "no Python of version 3.10 or later was found; install one, or name it: make PYTHON=/path/to/python3" >&2
    exit 2
fi
if "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
rm -rf "$folder"
if "$python" -m venv "$folder" >/dev/null 2>&1; then
    exit 0
fi
rm -rf "$folder"
"$python" -m venv --without-pip "$folder"
if "$python" -m pip --python "$folder/bin/python" install -q pip 2>/dev/null; then
    exit 0
fi
for pip in pip3 pip; do
    if "$pip" --python "$folder/bin/python" install -q pip 2>/dev/null; then
        exit 0
    fi
done
echo "this Python has neither ensurepip nor pip: fetching pip from bootstrap.pypa.io"
fetch='import sys, urllib.request; urllib.request.urlretrieve("https://bootstrap.pypa.io/get-pip.py", sys.argv[1])'
if ! "$folder/bin/python" -c "$fetch" "$folder/get-pip.py" 2>/dev/null; then
    rm -rf "$folder"
    echo "pip cannot be fetched; install Python's venv module (Debian, Ubuntu: apt install python3-venv)" >&2
    exit 2
fi
"$folder/bin/python" "$folder/get-pip.py" -q
rm "$folder/get-pip.py"
