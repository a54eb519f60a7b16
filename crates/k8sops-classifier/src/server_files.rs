//! Files of the tool's machine that a command reads.
//!
//! A file there may be the tool's own kubeconfig or token, so reading one is not a look. The exception are charts: a chart
//! below the working directory shows only what its templates make of the values.

use crate::classification::ServerReach;

/// Parts of names of files that hold secrets.
const SECRET_NAME_PARTS: &[&str] = &[
    "secret",
    "credential",
    "kubeconfig",
    "token",
    "passw",
    "private",
    "apikey",
    "api-key",
    "api_key",
    "id_rsa",
    "admin.conf",
];

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileUse {
    /// As a manifest or a kustomization, which kubectl prints as it is.
    Manifest,
    /// As a chart.
    Chart,
    /// As the values of a chart.
    Values,
}

/// Returns what reading a file reaches.
pub(crate) fn reach_of_file(path: &str, file_use: FileUse) -> ServerReach {
    if path == "-" {
        return ServerReach::Cluster;
    }
    let lower = path.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let is_hidden = parts.iter().any(|part| part.starts_with('.') && *part != ".") || lower.starts_with('~');
    // A chart is a directory with a `Chart.yaml`, whatever its name is.
    let is_secret = file_use != FileUse::Chart && SECRET_NAME_PARTS.iter().any(|part| lower.contains(part));
    let is_system =
        ["/proc", "/etc", "/root", "/var/run", "/run", "/sys", "/dev"].iter().any(|root| lower.starts_with(root));
    let is_document = [".yaml", ".yml", ".json"].iter().any(|extension| lower.ends_with(extension));
    if is_hidden || is_secret || is_system || lower.contains(['\\', '$', '`']) {
        return ServerReach::ServerFiles;
    }
    let is_below_working_directory = !lower.starts_with('/');
    match file_use {
        FileUse::Values if !is_document => ServerReach::ServerFiles,
        FileUse::Chart | FileUse::Values if is_below_working_directory => ServerReach::Chart,
        FileUse::Manifest | FileUse::Chart | FileUse::Values => ServerReach::Manifests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_charts_below_the_working_directory_are_a_look() {
        for (path, file_use, expected) in [
            ("-", FileUse::Manifest, ServerReach::Cluster),
            ("./chart", FileUse::Chart, ServerReach::Chart),
            ("bitnami/nginx", FileUse::Chart, ServerReach::Chart),
            ("values-prod.yaml", FileUse::Values, ServerReach::Chart),
            ("deploy.yaml", FileUse::Manifest, ServerReach::Manifests),
            ("/srv/charts/web", FileUse::Chart, ServerReach::Manifests),
            ("/srv/values.yaml", FileUse::Values, ServerReach::Manifests),
            ("values", FileUse::Values, ServerReach::ServerFiles),
            ("../x.yaml", FileUse::Values, ServerReach::ServerFiles),
            (".kube/config.yaml", FileUse::Values, ServerReach::ServerFiles),
            ("secrets.yaml", FileUse::Values, ServerReach::ServerFiles),
            ("/etc/shadow", FileUse::Manifest, ServerReach::ServerFiles),
            ("~/x.yaml", FileUse::Manifest, ServerReach::ServerFiles),
        ] {
            assert_eq!(reach_of_file(path, file_use), expected, "{path}");
        }
    }
}
