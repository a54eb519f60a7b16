#!/usr/bin/env bash
# Runs each fuzz target for some seconds, from its seeds on.
#
#   bash fuzz/run.sh [SECONDS] [TARGET...]      default: 12 seconds, all targets
#
# Works with the stable compiler: the instrumentation is LLVM's, and no sanitizer is used, since no code here is unsafe.
# Only the project's own crates are instrumented. An input that breaks a property is kept in fuzz/artifacts; add it to
# the seeds when the fault is mended, so that the unit tests try it from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=.ci/toolchain.sh
source .ci/toolchain.sh

seconds=${1:-12}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# The dependencies are the product's, compiled in the same way: they are taken from its target folder.
export RUSTC_WRAPPER=$PWD/fuzz/instrument.sh CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# The versions that the product is built with; cargo adds those of libFuzzer.
cp Cargo.lock fuzz/Cargo.lock
cargo build --quiet --manifest-path fuzz/Cargo.toml --bins

failed=0
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  log=$(mktemp)
  if "$CARGO_TARGET_DIR/debug/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
    -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target" > "$log" 2>&1; then
    printf '%-16s %s\n' "$target" "$(grep '^Done' "$log")"
  else
    tail -n 40 "$log"
    echo "fuzz: $target FAILED; the input is in fuzz/artifacts/$target" >&2
    failed=$((failed + 1))
  fi
  rm -f "$log"
done
echo "fuzz: $((${#targets[@]} - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
