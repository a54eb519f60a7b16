//! Helpers for the tests of the checks.

use crate::config::{Config, Loaded, Sources};

/// Loads a configuration from environment variables alone.
pub(super) fn load_config(env: &[(&str, &str)]) -> Loaded {
    let env = env.iter().chain(&[("HOME", "/h")]).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(Sources { env, ..Sources::default() }).unwrap()
}
