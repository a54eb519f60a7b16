//! Tools that a model found by searches.

use std::collections::BTreeSet;

use k8sops_core::ToolCallId;

use crate::ToolSpec;

/// The tools that the searches of a conversation found, in its order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoundTools(Vec<(ToolCallId, Vec<ToolSpec>)>);

impl FromIterator<(ToolCallId, Vec<ToolSpec>)> for FoundTools {
    /// Collects the tools that each search found, by the id of its call.
    fn from_iter<I: IntoIterator<Item = (ToolCallId, Vec<ToolSpec>)>>(searches: I) -> Self {
        Self(searches.into_iter().filter(|(_, tools)| !tools.is_empty()).collect())
    }
}

impl FoundTools {
    /// Returns the tools that a search found; none if the call is no search.
    pub(crate) fn find_by_search(&self, call: &ToolCallId) -> &[ToolSpec] {
        self.0.iter().find(|(search, _)| search == call).map_or(&[], |(_, tools)| tools)
    }

    /// Returns the tools that a search found and no search before it.
    pub(crate) fn find_new_by_search(&self, call: &ToolCallId) -> Vec<&ToolSpec> {
        let earlier: BTreeSet<&str> = self.0.iter().take_while(|(search, _)| search != call).flat_map(names).collect();
        self.find_by_search(call).iter().filter(|tool| !earlier.contains(tool.name.as_str())).collect()
    }

    /// Returns each found tool once, in the order in which they were found.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        let mut known = BTreeSet::new();
        self.0.iter().flat_map(|(_, tools)| tools).filter(move |tool| known.insert(tool.name.as_str()))
    }

    /// Whether no search found anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the searches for which `is_kept` is false.
    pub(crate) fn retain_searches(&mut self, is_kept: impl Fn(&ToolCallId) -> bool) {
        self.0.retain(|(search, _)| is_kept(search));
    }

    /// Removes the tools for which `is_kept` is false, and the searches that found nothing else.
    pub(crate) fn retain_tools(&mut self, is_kept: impl Fn(&ToolSpec) -> bool) {
        for (_, tools) in &mut self.0 {
            tools.retain(&is_kept);
        }
        self.0.retain(|(_, tools)| !tools.is_empty());
    }
}

fn names((_, tools): &(ToolCallId, Vec<ToolSpec>)) -> impl Iterator<Item = &str> {
    tools.iter().map(|tool| tool.name.as_str())
}
