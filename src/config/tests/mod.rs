//! Tests of loading the configuration.

mod compatibility;
mod documents;
mod mcp_servers;
mod models;
mod sections;
mod sources;

use std::collections::BTreeMap;

use super::*;

fn env_sources(env: &[(&str, &str)]) -> SettingSources {
    let mut env: BTreeMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    env.entry("HOME".to_owned()).or_insert_with(|| "/home/anna".to_owned());
    SettingSources { env, dotenv: None, yaml: None }
}

fn yaml_sources(text: &str) -> SettingSources {
    SettingSources { yaml: Some(("/etc/k8sops.yaml".into(), text.to_owned())), ..env_sources(&[]) }
}

fn load_valid(sources: SettingSources) -> LoadedConfig {
    AppConfig::load(sources).unwrap()
}

fn load_problems(sources: SettingSources) -> Vec<String> {
    AppConfig::load(sources).unwrap_err().problems()
}
