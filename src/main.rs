//! The command line of k8sops.

fn main() {}
