#!/usr/bin/env bash
# Runs a release build under steady load. Exits with 1 if the use of a resource grows.
#
#   bash tests/soak/run.sh [--minutes 10] [--store memory|redis]     default: both stores, one after the other
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
command -v cargo > /dev/null || export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

minutes=10 stores=(memory redis)
while [ $# -gt 0 ]; do
  case $1 in
    --minutes) minutes=$2 ;;
    --store) stores=("$2") ;;
    *) echo "tests/soak/run.sh: unknown: $1" >&2; exit 2 ;;
  esac
  shift 2
done

# shellcheck source=/dev/null
[ ! -e "${K8SOPS_TESTBED:-.testbed}/env.sh" ] || source "${K8SOPS_TESTBED:-.testbed}/env.sh"
result=0
for store in "${stores[@]}"; do
  cargo test --locked --quiet --release --test soak -- --minutes "$minutes" --store "$store" || result=1
done
exit "$result"
