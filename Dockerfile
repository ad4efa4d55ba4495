# syntax=docker/dockerfile:1
# The whole pipeline on any CUDA GPU:   docker build -t attcli .   docker run --gpus all attcli distill --ipc 50
# The base gives the CUDA user space; torch brings its own CUDA libraries. Any Debian-like base with Python >= 3.11
# packages will do.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-runtime-ubuntu24.04
# hadolint ignore=DL3006
FROM ${BASE_IMAGE}

ENV DEBIAN_FRONTEND=noninteractive \
    PYTHONUNBUFFERED=1 \
    DVC_NO_ANALYTICS=1 \
    PATH=/opt/attcli/bin:$PATH

# g++ and python3-dev: torch.compile builds its kernels' launchers with them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 attcli \
    && install -d -o attcli /work

COPY requirements.lock /opt/source/
RUN python3 -m venv /opt/attcli \
    && /opt/attcli/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /opt/source/requirements.lock

COPY pyproject.toml hatch_build.py README.md LICENSE /opt/source/
COPY attcli /opt/source/attcli
RUN /opt/attcli/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation /opt/source

# An empty folder: no params.yaml here hides the paper's defaults. Mount a volume to keep results.
USER 10001
WORKDIR /work
ENTRYPOINT ["attcli"]
CMD ["--help"]
