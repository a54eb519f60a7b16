//! The tools that a new session has, for people who want to see them.

use std::collections::BTreeMap;

use k8sops_models::ToolSpec;

use crate::{catalog::ToolCatalog, tool_offer::count_spec_tokens};

/// The tools of one server that models get with every request.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferedTools {
    /// The server; `k8sops` for the built-in tools.
    pub server: String,
    /// The tools, by their names.
    pub specs: Vec<ToolSpec>,
    /// Their estimated tokens in a request.
    pub tokens: usize,
}

impl ToolCatalog {
    /// Returns the tools of a new session by their server, in the order of the servers' names.
    pub fn offered_tools(&self) -> Vec<OfferedTools> {
        let servers: BTreeMap<String, String> =
            self.list_tools().into_iter().map(|tool| (tool.name, tool.server)).collect();
        let mut offered: BTreeMap<&str, Vec<ToolSpec>> = BTreeMap::new();
        for spec in self.tool_specs(&[]).iter() {
            let server = servers.get(&spec.name).map_or("k8sops", String::as_str);
            offered.entry(server).or_default().push(spec.clone());
        }
        let by_server = |(server, specs): (&str, Vec<ToolSpec>)| {
            let tokens = specs.iter().map(count_spec_tokens).sum();
            OfferedTools { server: server.to_owned(), specs, tokens }
        };
        offered.into_iter().map(by_server).collect()
    }
}
