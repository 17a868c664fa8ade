# hpa-bench on NVIDIA GPUs, with vLLM: docker build --file docker/cuda.Dockerfile --tag hpa-bench:cuda .
# Not built so far: no Docker was at hand. tests/test_project.py holds the versions to those that were tested.
#
# What fits together: vLLM 0.32.0 asks for exactly torch 2.13.0, torchvision 0.28.0 and transformers below 5.20, so that
# requirements-lock.txt, with transformers 5.24.0, does not hold here. The wheels of torch 2.13.0 in the package index are
# built for CUDA 13.0, which takes a driver of 580 or newer. Python is Ubuntu 24.04's, 3.12.
# The base is the development image: what vLLM compiles when it starts takes nvcc.
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04

ARG VLLM=0.32.0
ARG TORCH=2.13.0
ARG TRANSFORMERS=5.19.0

RUN apt-get update \
    && apt-get install --yes --no-install-recommends default-jre-headless g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/hpa-bench
ENV PATH=/opt/hpa-bench/bin:$PATH

COPY . /src
RUN pip install --no-cache-dir "torch==$TORCH" "transformers==$TRANSFORMERS" "vllm==$VLLM" '/src[captions]' \
    && rm -rf /src

RUN useradd --create-home bench
USER bench
# docker run --gpus all --ipc host --volume "$PWD:/home/bench/work" hpa-bench:cuda run --suite ucit --data-root downloads
WORKDIR /home/bench/work
ENTRYPOINT ["hpa-bench"]
CMD ["--help"]
