//! Files and charts that a command fetches from another machine.

/// Returns whether the name of a file, a kustomization or a chart may be an address: `https://…`, `github.com/…`, `git@…`.
pub(crate) fn is_remote_source(source: &str) -> bool {
    let first = source.split('/').next().unwrap_or_default();
    let is_domain = source.contains('/') && first.contains('.') && !matches!(first, "." | "..");
    source.contains("://")
        || source.contains(['@', '?', '%'])
        || is_domain
        || (source.contains(':') && !source.starts_with('/'))
}
