//! The tools that a session has: those of every request, for people who want to see them, and those that it finds.

use std::{collections::BTreeMap, sync::Arc};

use k8sops_core::ChatMessage;
use k8sops_models::{FoundTools, ToolSpec};
use serde_json::{Map, Value};

use crate::{
    catalog::ToolCatalog,
    tool_offer::count_spec_tokens,
    tool_search::{SearchError, found_in_result, search_results},
};

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
        for spec in self.tool_specs(&[], &[]).iter() {
            let server = servers.get(&spec.name).map_or("k8sops", String::as_str);
            offered.entry(server).or_default().push(spec.clone());
        }
        let by_server = |(server, specs): (&str, Vec<ToolSpec>)| {
            let tokens = specs.iter().map(count_spec_tokens).sum();
            OfferedTools { server: server.to_owned(), specs, tokens }
        };
        offered.into_iter().map(by_server).collect()
    }

    /// Runs `find_tools`. Errors are for the model.
    pub(crate) async fn find_tools(&self, arguments: &Map<String, Value>) -> Result<String, SearchError> {
        self.tool_search().find_tools(&self.hidden_specs(), arguments).await
    }

    /// Returns the tools that each search in these messages found, as far as they are still found by a search.
    pub(crate) fn found_tools(&self, messages: &[Arc<ChatMessage>]) -> FoundTools {
        let mut results = search_results(messages).peekable();
        if results.peek().is_none() {
            return FoundTools::default();
        }
        let hidden: BTreeMap<String, ToolSpec> =
            self.hidden_specs().into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let found = results.map(|result| {
            let specs = found_in_result(result).filter_map(|name| hidden.get(name).cloned()).collect();
            (result.tool_call_id.clone(), specs)
        });
        found.collect()
    }
}
