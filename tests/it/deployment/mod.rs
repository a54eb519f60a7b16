//! The Dockerfile, the Helm chart, and the plain manifests that are rendered from it.

mod chart;
mod compose;
mod files;
mod objects;
mod rejected_values;
mod service_settings;
mod upgrade;
