//! What Secret objects look like in all notations.

/// Returns whether a `type` is one of Secrets. Some tools leave out the `kind`.
pub(super) fn has_secret_type(name: &str) -> bool {
    matches!(
        name,
        "Opaque"
            | "kubernetes.io/tls"
            | "kubernetes.io/dockerconfigjson"
            | "kubernetes.io/dockercfg"
            | "kubernetes.io/basic-auth"
            | "kubernetes.io/ssh-auth"
            | "kubernetes.io/service-account-token"
            | "bootstrap.kubernetes.io/token"
            | "helm.sh/release.v1"
    )
}

/// Returns whether a value is the size that `kubectl describe secret` prints in its place.
pub(super) fn is_size(value: &str) -> bool {
    value.strip_suffix(" bytes").is_some_and(|size| !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()))
}
