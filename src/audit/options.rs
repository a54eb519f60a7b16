//! Options of the audit trail.

use std::path::PathBuf;

use k8sops_settings::{ValueFormat, declaration::optional, options};

options! {
    /// Audit trail.
    #[derive(Debug, Clone)]
    pub struct AuditOptions at "audit" {
        /// File of the audit trail, or - for standard output; empty: no audit trail.
        pub log: Option<AuditDestination> =
            optional(AUDIT_DESTINATION).variable("AUDIT_LOG").example("/var/log/k8sops/audit.jsonl"),
    }
}

/// Where the audit trail is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditDestination {
    /// Standard output, one line per record.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

const AUDIT_DESTINATION: ValueFormat<AuditDestination> =
    ValueFormat::described("a path, or - for standard output", |text| {
        Some(if text == "-" { AuditDestination::Stdout } else { AuditDestination::File(text.into()) })
    });
