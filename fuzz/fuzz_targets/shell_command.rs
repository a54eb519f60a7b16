//! Command lines of tools that wrap kubectl, helm, argocd or a shell.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| k8sops_classifier::fuzzing::check_shell_command(text));
