#!/usr/bin/env bash
# Runs the tests: unit tests, the integration tests (tests/it), the chaos test in short, the MCP conformance suite
# (tests/conformance) and the examples in the documentation. The image has a test of its own: tests/image/run.sh.
#
#   bash tests/run.sh [ARGUMENTS OF cargo test]      e.g.  bash tests/run.sh --test it websocket
#
# Installs what the integration tests need first (tests/testbed/setup.sh; a minute the first time, a second after that).
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"

# shellcheck source=.ci/toolchain.sh
source .ci/toolchain.sh

testbed=${K8SOPS_TESTBED:-$repo/.testbed}
bash tests/testbed/setup.sh > /dev/null || { echo "tests/run.sh: the test bed could not be set up" >&2; exit 1; }
# shellcheck source=/dev/null
source "$testbed/env.sh"

# The tests bring their own settings; what is exported for real use here, keys above all, must not leak into them.
while read -r name; do
  case $name in
    K8SOPS_TEST*) ;;
    K8SOPS_* | ANTHROPIC_* | OPENAI_* | OLLAMA_* | LLM_* | MCP_* | AUTH_* | MEMORY_* | EMBEDDING_*) unset "$name" ;;
    OTEL_* | AUDIT_LOG) unset "$name" ;;
    REDIS_URL | MAX_SESSIONS | LOG_LEVEL | LOG_FORMAT | TOOL_APPROVAL* | KUBECONFIG) unset "$name" ;;
  esac
done < <(compgen -e)

exec cargo test --locked "$@" < /dev/null
