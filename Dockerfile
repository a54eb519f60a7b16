# k8sops in an image: a distroless base (libc, libgcc, certificates; no shell) and one program of 37 MB (amd64).
#
#   docker build -t k8sops .
#   docker buildx build --platform linux/amd64,linux/arm64 -t k8sops .
#
# It runs as 65532 with a read-only root; sessions of the filesystem store go to /data, which wants a volume:
#
#   docker run --read-only -v k8sops:/data -p 127.0.0.1:8080:8080 -e AUTH_MODE=… -e ANTHROPIC_API_KEY k8sops
#
# MCP servers that are started as programs (stdio) are not part of it: run them as containers of their own, or build an
# image FROM this one.
#
# The base images are arguments, for mirrors and for tests/image/run.sh. A program that is already compiled takes the place
# of the stage `build` with --build-context build=FOLDER (the folder holds `k8sops`, `THIRD-PARTY-LICENSES.txt` and an
# empty folder `data`).
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# Cross-compiled: the compiler runs on the architecture of the machine that builds.
FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN if [ "${TARGETARCH:-$BUILDARCH}" != "$BUILDARCH" ]; then \
      case "$TARGETARCH" in \
        amd64) cross=x86-64-linux-gnu ;; \
        arm64) cross=aarch64-linux-gnu ;; \
        *) echo "TARGETARCH is $TARGETARCH; allowed: amd64 or arm64" >&2; exit 1 ;; \
      esac; \
      apt-get update; \
      apt-get install -y --no-install-recommends "gcc-$cross" "g++-$cross" "libc6-dev-$TARGETARCH-cross"; \
      rm -rf /var/lib/apt/lists/*; \
    fi
WORKDIR /src
COPY . .
# The linker and the C compiler of the other machine, where there is one; cargo does not look at them otherwise.
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CC_x86_64_unknown_linux_gnu=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    case "${TARGETARCH:-$BUILDARCH}" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "TARGETARCH is $TARGETARCH; allowed: amd64 or arm64" >&2; exit 1 ;; \
    esac; \
    rustup target add "$target"; \
    cargo build --locked --profile dist --bin k8sops --target "$target"; \
    cp "target/$target/dist/k8sops" /k8sops; \
    python3 deploy/image/third_party_licenses.py "$target" > /THIRD-PARTY-LICENSES.txt; \
    mkdir /data

FROM ${RUNTIME_IMAGE}
COPY --from=build /k8sops /usr/local/bin/k8sops
COPY LICENSE /usr/share/doc/k8sops/
COPY --from=build /THIRD-PARTY-LICENSES.txt /usr/share/doc/k8sops/
COPY --from=build --chown=65532:65532 /data /data
# By number, so that a cluster that forbids root can see that this is not root.
USER 65532:65532
ENV HOME=/data MEMORY_FILESYSTEM_PATH=/data K8SOPS_HOST=0.0.0.0
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/k8sops"]
CMD ["serve"]
