//! Configuration: the options of all crates, composed, read from all sources and checked against each other.
//!
//! Each crate declares its options where it uses them (`k8sops_settings::options!`). This module lists their sections
//! ([`settings_catalog`]), reads them ([`AppConfig::load`]) and holds the checks that concern several sections. An
//! [`AppConfig`] that exists can be run.
//!
//! ```text
//! config/models.yaml ─▶ K8SOPS_CONFIG ─▶ .env ─▶ environment ─▶ SettingReader ─▶ options of each crate ─▶ checks ─▶ AppConfig
//! ```

mod app_config;
mod catalog;
mod generated;
mod llm;
mod memory;
#[cfg(test)]
mod tests;

pub use k8sops_settings::{SettingOrigin, SettingSources};

pub use app_config::{AppConfig, ConfigError, LoadedConfig};
pub use catalog::{CONFIG_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE, settings_catalog};
pub use generated::GeneratedDocument;
pub use llm::LlmConfig;
pub use memory::{EmbeddingConfig, LongTermConfig};
