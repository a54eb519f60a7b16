#!/usr/bin/env bash
# Builds the image with the Dockerfile and starts it: not as root, with a read-only root, and with a volume for sessions.
#
#   bash tests/image/run.sh [PROGRAM]      PROGRAM: what to put into the image; default: target/debug/k8sops
#
# The program is not compiled a second time: a folder with it takes the place of the Dockerfile's stage `build`. The base
# image is a stand-in for the distroless one, with the same Debian packages and nothing else, since a test machine may reach
# Debian's packages and no registry of images. It is made with debootstrap, once, and kept in the test bed.
#
# Needs root and Debian's packages. If containers cannot run on a machine, the test says why and counts as skipped; with
# K8SOPS_TEST_SKIP=fail (as in CI) a skip is a failure.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TESTBED=${K8SOPS_TESTBED:-$repo/.testbed}
mkdir -p "$TESTBED"
TESTBED=$(cd "$TESTBED" && pwd)
# shellcheck source=tests/testbed/common.sh
source "$repo/tests/testbed/common.sh"

program=${1:-$repo/target/debug/k8sops}
base=$TESTBED/image-base.tar
suite=bookworm

fail() {
  printf 'image test FAILED: %s\n' "$*" >&2
  [ ! -s "$work/log" ] || tail -n 30 "$work/log" >&2
  exit 1
}

skip() {
  [ "${K8SOPS_TEST_SKIP:-}" != fail ] || fail "skipped: $*"
  printf '\nSKIPPED: the image test did not run: %s\n\n' "$*" >&2
  exit 0
}

work=$(mktemp -d)
storage=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
container=k8sops-image-test-$$

# Podman in a mount namespace of its own. A host with both versions of cgroups mounted is one that crun refuses; in here
# only version 1 is left. The limits are explicit since Podman would raise them, which a container's root may not do.
# shellcheck disable=SC2016 # the inner shell expands these
podman() {
  unshare --mount bash -c '
    if [ -e /sys/fs/cgroup/unified/cgroup.controllers ]; then umount /sys/fs/cgroup/unified; fi
    exec podman "$@"' podman "${storage[@]}" --cgroup-manager cgroupfs --events-backend file "$@"
}
buildah() { command buildah "${storage[@]}" "$@"; }

end() {
  podman rm --force --time 0 "$container" > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap end EXIT

install_programs() {
  local missing=() probe
  [ "$(id -u)" -eq 0 ] || skip "it needs root"
  for probe in buildah:buildah podman:podman crun:crun debootstrap:debootstrap strip:binutils curl:curl jq:jq; do
    PATH=$PATH:/usr/sbin type -P "${probe%%:*}" > /dev/null || missing+=("${probe#*:}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get > /dev/null || skip "missing: ${missing[*]}"
  install_packages "${missing[@]}"
}

# What distroless/cc-debian12 consists of: libc and libgcc, certificates, time zones, names of users; no shell.
make_base() {
  local root=$work/debian slim=$work/slim packages=(base-files ca-certificates libc6 libgcc-s1 netbase tzdata) folder file
  local version
  version="$suite ${packages[*]} 1"
  if stamp_is image-base "$version" && [ -e "$base" ]; then return; fi
  say "making the base image with debootstrap"
  local mirror
  # shellcheck disable=SC2016 # these are apt's own placeholders
  mirror=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian|Debian|//p' | head -n 1)
  debootstrap --variant=minbase --include=ca-certificates,netbase "$suite" "$root" "$mirror" > "$work/log" 2>&1 ||
    fail "debootstrap failed"

  mkdir -p "$slim"/usr/{bin,lib,lib64,sbin} "$slim/tmp" "$slim/home/nonroot"
  for folder in bin lib lib64 sbin; do ln -s "usr/$folder" "$slim/$folder"; done
  chmod 1777 "$slim/tmp"
  {
    chroot "$root" dpkg -L "${packages[@]}" | sort -u | while read -r file; do
      if [ -L "$root$file" ] || [ -f "$root$file" ]; then echo ".$file"; fi
    done
    (cd "$root" && find ./etc/ssl/certs ./etc/passwd ./etc/group ./etc/nsswitch.conf ! -type d)
  } > "$work/files"
  tar -C "$root" -cf - --no-recursion -T "$work/files" | tar -C "$slim" --keep-directory-symlink -xf -
  echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >> "$slim/etc/passwd"
  echo 'nonroot:x:65532:' >> "$slim/etc/group"
  tar -C "$slim" -cf "$base.new" .
  mv "$base.new" "$base"
  stamp_set image-base "$version"
}

build_image() {
  local base_container
  base_container=$(buildah from scratch)
  buildah add --quiet "$base_container" "$base" / > /dev/null
  buildah commit --quiet "$base_container" localhost/base > /dev/null
  buildah rm "$base_container" > /dev/null

  mkdir -p "$work/build/data"
  strip -o "$work/build/k8sops" "$program"
  (cd "$repo" && python3 deploy/image/third_party_licenses.py) > "$work/build/THIRD-PARTY-LICENSES.txt"
  buildah build --quiet --pull-never --build-context "build=$work/build" --build-arg BUILD_IMAGE=localhost/base \
    --build-arg RUNTIME_IMAGE=localhost/base --tag localhost/k8sops "$repo" > "$work/log" 2>&1 || fail "buildah build failed"
}

# $1: the image.
size() { buildah images --json "$1" | jq -r '.[0].size'; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

check() { # WHAT EXPECTED FOUND
  [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"
  printf '  %s: %s\n' "$1" "$3"
}

start_image() {
  local port url pid deadline
  port=$(free_port)
  url=http://127.0.0.1:$port
  # The program prints its version: if not even that works, it is the machine that cannot run containers.
  podman run --rm --pull=never --network=none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --read-only \
    localhost/k8sops --version > "$work/log" 2>&1 || skip "no container starts on this machine: $(tail -n 1 "$work/log")"
  grep -q '^k8sops ' "$work/log" || fail "--version prints something else"

  # The network of the host, so that no bridge and no rule of the firewall are needed; it listens on loopback only.
  podman run --detach --name "$container" --pull=never --network=host --ulimit nofile=1024:1024 \
    --ulimit nproc=1024:1024 --read-only --cap-drop=all --security-opt no-new-privileges --volume k8sops-data:/data \
    --env K8SOPS_HOST=127.0.0.1 --env "K8SOPS_PORT=$port" --env ANTHROPIC_API_KEY=none localhost/k8sops > "$work/log" 2>&1 ||
    fail "the container does not start"
  deadline=$((SECONDS + 30))
  until [ "$(curl -s -o /dev/null -w '%{http_code}' "$url/readyz")" = 200 ]; do
    [ "$SECONDS" -lt "$deadline" ] || { podman logs "$container" > "$work/log" 2>&1; fail "it is not ready after 30 s"; }
    sleep 0.1
  done

  pid=$(podman inspect --format '{{.State.Pid}}' "$container")
  check "user and group" "65532 65532" "$(awk '/^(Uid|Gid):/ {printf "%s%s", separator, $2; separator = " "}' "/proc/$pid/status")"
  check "capabilities" 0000000000000000 "$(awk '/^CapEff:/ {print $2}' "/proc/$pid/status")"
  check "root file system" ro "$(awk '$5 == "/" {split($6, options, ","); print options[1]}' "/proc/$pid/mountinfo")"
  check "shells in the image" 0 "$(find "/proc/$pid/root/usr/bin" "/proc/$pid/root/usr/sbin" -name '*sh' | wc -l)"
  check "health" 200 "$(curl -s -o /dev/null -w '%{http_code}' "$url/healthz")"
  check "a session is created" 201 "$(curl -s -o "$work/session" -w '%{http_code}' -H 'Content-Type: application/json' \
    -d '{}' "$url/v1/sessions")"
  find "/proc/$pid/root/data" -type f | grep -q "$(jq -r '.id // .session_id' "$work/session")" ||
    fail "the session is not on the volume"
  check "texts of licenses" 2 "$(find "/proc/$pid/root/usr/share/doc/k8sops" -type f -size +4k | wc -l)"

  podman stop --time 20 "$container" > /dev/null
  check "exit code after SIGTERM" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$container")"
}

install_programs
[ -x "$program" ] || fail "$program does not exist; compile it first: cargo build"
make_base
build_image
printf 'image: %s with a base of %s (stand-in) and a program of %s MB (%s)\n' "$(size localhost/k8sops)" \
  "$(size localhost/base)" "$(($(stat -c %s "$work/build/k8sops") / 1000000))" "${program#"$repo"/}"
start_image
echo "image: 1 passed, 0 failed"
