//! Where traces and the audit trail go.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::SecretString;

/// Traces over OTLP.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The collector's base URL; absent: nothing is exported.
    pub endpoint: Option<String>,
    /// Headers of every export.
    pub headers: BTreeMap<String, SecretString>,
    /// The service's name (`k8sops`).
    pub service_name: String,
    /// Which traces are kept (`parentbased_always_on`).
    pub sampler: Sampler,
    /// The share that a ratio keeps, 0 to 1.
    pub sampler_arg: f64,
    /// Whether prompts, arguments and outputs are in them (no).
    pub capture_content: bool,
}

/// Which traces are kept, in OpenTelemetry's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a caller that has decided already is followed.
    pub parent_based: bool,
    /// What is decided otherwise.
    pub root: RootSampler,
}

/// What becomes of a trace that begins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSampler {
    /// It is kept.
    AlwaysOn,
    /// It is dropped.
    AlwaysOff,
    /// A share of them is kept.
    Ratio,
}

impl Sampler {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (parent_based, root) = match text.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, text),
        };
        let root = match root {
            "always_on" => RootSampler::AlwaysOn,
            "always_off" => RootSampler::AlwaysOff,
            "traceidratio" => RootSampler::Ratio,
            _ => return None,
        };
        Some(Self { parent_based, root })
    }
}

/// Where the audit trail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// To standard output, a line each.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

impl AuditLog {
    #[allow(clippy::unnecessary_wraps, reason = "the loader wants parsers that can refuse")]
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}
