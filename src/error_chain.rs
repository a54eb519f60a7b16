//! Shows an error together with its causes.

pub(crate) use k8sops_core::ErrorChain;
