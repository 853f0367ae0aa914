#!/usr/bin/env bash
# Installs the CPU build of PyTorch and what its test databases import, or writes to a file why not.
# Usage: install_torch.sh BIN VERSION REASON_FILE, with BIN the bin folder of a virtual environment.
set -eu
bin=$1 version=$2 reason=$3
packages=("torch==$version" scipy expecttest)
pip=("$bin/pip" --disable-pip-version-check)
report=$(mktemp)
trap 'rm -f "$report"' EXIT
rm -f "$reason"

hint='PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gives pip the CPU builds'
if ! "${pip[@]}" install --quiet --dry-run --report "$report" "${packages[@]}"; then
    echo "pip finds no PyTorch $version for this Python and system ($hint)" | tee "$reason"
    exit 0
fi

# A CUDA build shows in the packages it requires; those of the other systems are CPU builds.
if grep -qiE '"name": *"(nvidia-|cuda-|triton|pytorch-triton)' "$report"; then
    echo "pip would install a CUDA build of PyTorch $version ($hint)" | tee "$reason"
    exit 0
fi
"${pip[@]}" install --quiet "${packages[@]}"
