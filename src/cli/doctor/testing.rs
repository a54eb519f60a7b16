//! Helpers for the tests of the checks.

use crate::config::{AppConfig, LoadedConfig, SettingSources};

/// Loads a configuration from environment variables alone.
pub(super) fn load_config(env: &[(&str, &str)]) -> LoadedConfig {
    let env = env.iter().chain(&[("HOME", "/h")]).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    AppConfig::load(SettingSources { env, ..SettingSources::default() }).unwrap()
}
