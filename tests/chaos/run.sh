#!/usr/bin/env bash
# The chaos test in its long version: replicas of k8sops behind nginx, Redis, and what is between them are disturbed while
# clients use them. Prints one table, and fails if a guarantee does not hold. Takes about three seconds per disturbance.
#
#   bash tests/chaos/run.sh [--disturbances 1000] [--kinds kill,failover,…] [--topology single|sentinel|cluster]
#                           [--confirm none|aof|N] [--doors native,agui,responses,a2a] [--sessions 8] [--replicas 3] [--seed N]
#
# docs/src/development/chaos.md explains the options. Installs Redis, nginx and libfaketime (Debian packages) if they are
# missing. Does not change services that run on the machine.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
# shellcheck source=tests/testbed/common.sh
source tests/testbed/common.sh

# A Rust that rustup has installed, and what Debian has for administrators, are not on the PATH of every shell.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin
command -v cargo > /dev/null || { echo "tests/chaos/run.sh: no cargo found; install Rust first" >&2; exit 1; }

missing=()
for probe in cc:build-essential redis-server:redis-server redis-cli:redis-tools nginx:nginx; do
  command -v "${probe%%:*}" > /dev/null || missing+=("${probe#*:}")
done
[ -n "$(faketime_library)" ] || missing+=(libfaketime)
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
K8SOPS_TEST_REDIS_SERVER=$(command -v redis-server)
K8SOPS_TEST_REDIS_CLI=$(command -v redis-cli)
K8SOPS_TEST_NGINX=$(command -v nginx)
K8SOPS_TEST_LIBFAKETIME=$(faketime_library)
export K8SOPS_TEST_REDIS_SERVER K8SOPS_TEST_REDIS_CLI K8SOPS_TEST_NGINX K8SOPS_TEST_LIBFAKETIME

exec cargo test --locked --release --test chaos -- --disturbances 1000 --sessions 8 --replicas 3 "$@" < /dev/null
