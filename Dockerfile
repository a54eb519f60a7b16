FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist --bin k8sops

FROM debian:bookworm-slim
# The certificates by which model providers and MCP servers are verified; the program itself needs only libc.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 65532 --create-home k8sops
COPY --from=build /src/target/dist/k8sops /usr/local/bin/k8sops
# By number, so that a cluster that forbids root can see that this is not root.
USER 65532:65532
# The home directory holds the sessions of the filesystem store (~/.k8sops): mount a volume there to keep them.
ENV HOME=/home/k8sops
WORKDIR /home/k8sops
ENV K8SOPS_HOST=0.0.0.0
EXPOSE 8080
ENTRYPOINT ["k8sops"]
CMD ["serve"]
