# syntax=docker/dockerfile:1
# The whole pipeline on any CUDA GPU:   docker build -t attcli .   docker run --gpus all attcli distill --ipc 50
# docs/running/containers.md tells more, and `make image-check` tries the image out.
#
# Any Debian-like base with Python >= 3.11 packages will do: torch brings its own CUDA libraries. What NVIDIA's base adds
# are the variables by which the container toolkit knows what to mount, and the oldest driver that is allowed.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:2ab6381d970b211fb93853796dc6707eb8a72575a375c422b17cf4d8b2641701

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
# g++ and python3-dev: torch.compile builds its kernels' launchers with them. git: DVC needs it in a checkout, and any
# user may use a checkout that another one owns.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ git python3 python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system safe.directory '*'


FROM base AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source


# The locked dependencies, which change rarely. TORCH_FROM takes torch and torchvision from elsewhere: the address of an
# index, or a folder, with their builds for CPUs.
FROM builder AS dependencies
ARG TORCH_FROM=
COPY requirements-image.lock deploy/install_dependencies.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/attcli \
    && python3 install_dependencies.py /opt/attcli/bin/pip requirements-image.lock "$TORCH_FROM"


# The wheel, and a list of all Python packages of the image (CycloneDX).
FROM builder AS package
COPY requirements-tools.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes -r requirements-tools.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY attcli attcli
RUN /opt/tools/bin/hatchling build -t wheel -d /out
RUN --mount=type=bind,from=dependencies,source=/opt/attcli,target=/opt/attcli \
    /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /out/attcli.cdx.json /opt/attcli/bin/python


FROM base
COPY --from=dependencies /opt/attcli /opt/attcli
# /work holds results, kept work, downloaded data and caches. Any user of group 0 may write to it, as OpenShift's do.
# This comes before the package, so that a change of the code alone leaves the large layers as they are.
RUN install -d -m 2775 -o 10001 -g 0 /work
RUN --mount=type=bind,from=package,source=/out,target=/out \
    /opt/attcli/bin/python -m pip install --no-cache-dir --no-deps --no-index /out/*.whl \
    && install -D -m 644 /out/attcli.cdx.json /usr/share/sbom/attcli.cdx.json

# A user without a name has no home; torch and DVC ask for both. `container` tells attcli that it is in a container.
ENV PATH=/opt/attcli/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DVC_NO_ANALYTICS=1 \
    USER=attcli \
    HOME=/work/.attcli/home \
    TORCHINDUCTOR_CACHE_DIR=/work/.attcli/home/torchinductor \
    container=oci

ARG BASE_IMAGE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="attcli" \
      org.opencontainers.image.description="Dataset distillation by matching training trajectories" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# An empty folder: no params.yaml here hides the published settings. Mount a volume to keep what is in it.
USER 10001:0
WORKDIR /work
ENTRYPOINT ["attcli"]
CMD ["--help"]
