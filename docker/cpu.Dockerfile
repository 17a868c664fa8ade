# hpa-bench on a CPU: docker build --file docker/cpu.Dockerfile --tag hpa-bench:cpu .
# Not built so far: no Docker was at hand. tests/test_project.py holds the versions to those that were tested.
#
# Python 3.11, torch 2.13.0 (the CPU build of torch's own index, which pip prefers to the package index's CUDA build as
# its version has a mark, +cpu), transformers 5.24.0, lm-eval 0.4.13 and the rest of requirements-lock.txt.
FROM python:3.11-slim

# METEOR and the PTB tokenizer of the caption metrics are Java.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends default-jre-headless \
    && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint /src/requirements-lock.txt '/src[captions]' \
    && rm -rf /src

RUN useradd --create-home bench
USER bench
# Runs are written below the working folder: docker run --volume "$PWD:/home/bench/work" hpa-bench:cpu run --method hpa
WORKDIR /home/bench/work
ENTRYPOINT ["hpa-bench"]
CMD ["--help"]
