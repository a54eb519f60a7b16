#!/usr/bin/env bash
# Runs the tests: unit tests, the integration tests (tests/it), the chaos test in short, the MCP conformance suite
# (tests/conformance) and the examples in the documentation. The image has a test of its own: tests/image/run.sh.
#
#   bash tests/run.sh [ARGUMENTS OF cargo test]      e.g.  bash tests/run.sh --test it websocket
#
# First the tests that need nothing but Rust, as `cargo test` runs them on any machine; then those that need the test bed
# (`#[ignore = "needs the test bed: …"]`), which tests/testbed/setup.sh installs (minutes the first time, a second after
# that). No test is skipped.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"

# shellcheck source=.ci/toolchain.sh
source .ci/toolchain.sh

# The tests bring their own settings; what is exported for real use here, keys above all, must not leak into them.
while read -r name; do
  case $name in
    K8SOPS_TESTBED) ;;
    K8SOPS_* | ANTHROPIC_* | OPENAI_* | OLLAMA_* | LLM_* | MCP_* | AUTH_* | MEMORY_* | EMBEDDING_*) unset "$name" ;;
    OTEL_* | AUDIT_LOG) unset "$name" ;;
    REDIS_URL | MAX_SESSIONS | LOG_LEVEL | LOG_FORMAT | TOOL_APPROVAL* | KUBECONFIG) unset "$name" ;;
  esac
done < <(compgen -e)

# What comes after `--` is for the test binaries.
case " $* " in *" -- "*) ;; *) set -- "$@" -- ;; esac

cargo test --locked "$@" < /dev/null

bash tests/testbed/setup.sh > /dev/null || { echo "tests/run.sh: the test bed could not be set up" >&2; exit 1; }
# shellcheck source=/dev/null
source "${K8SOPS_TESTBED:-$repo/.testbed}/env.sh"
# A test binary with a runner of its own fails with this where it would skip its tests.
export K8SOPS_TEST_SKIP=fail
exec cargo test --locked "$@" --ignored < /dev/null
