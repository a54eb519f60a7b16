#!/usr/bin/env bash
# Calls the compiler (RUSTC_WRAPPER), and adds the instrumentation of libFuzzer for the project's own crates.
set -euo pipefail

case " $* " in
  *" --crate-name k8sops"* | *" --crate-name shell_command "* | *" --crate-name redaction "* | \
    *" --crate-name id_scanner "* | *" --crate-name provider_stream "* | *" --crate-name client_frame "*)
    exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
    ;;
  *) exec "$@" ;;
esac
