//! Where a request describes the tools that a search found.
//!
//! A prompt begins with its list of tools, so a tool that is added to the list costs the provider's prompt cache of the whole
//! conversation. Some servers load a tool in the conversation instead, behind the search that found it: the list stays the same,
//! and a tool costs tokens from then on. With the others, the found tools stand at the end of the list.

use std::{collections::BTreeSet, mem, sync::Arc};

use k8sops_core::{ChatMessage, ToolCallId};

use crate::{ChatRequest, DeferredTools, Dialect, FoundTools, ModelFeature, ModelOptions, ToolSpec};

/// Where a request describes the tools that a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FoundToolPlace {
    /// In the list of tools.
    #[default]
    List,
    /// In the conversation, behind the search.
    Conversation,
}

impl FoundToolPlace {
    /// Returns the place by the dialect of a server, and by what is known of a model.
    pub(crate) fn for_model(dialect: &Dialect, model: Option<&ModelOptions>) -> Self {
        let feature = ModelFeature::DeferredTools;
        let is_loaded = match dialect.deferred_tools {
            DeferredTools::Never => false,
            DeferredTools::ListedModels => model.is_some_and(|model| model.features.contains(&feature)),
            DeferredTools::AllModels => !model.is_some_and(|model| model.lacks(feature)),
        };
        if is_loaded { Self::Conversation } else { Self::List }
    }
}

impl ChatRequest {
    /// Moves the found tools to their place: those that searches in this conversation found leave the list of tools, or
    /// `found_tools` becomes empty.
    pub(crate) fn place_found_tools(&mut self, place: FoundToolPlace) {
        let mut found = mem::take(&mut self.found_tools);
        if place == FoundToolPlace::List || found.is_empty() {
            return;
        }
        // A conversation may have been cut since the search.
        let calls: BTreeSet<&ToolCallId> = self.messages.iter().flat_map(|message| called_ids(message)).collect();
        let results = self.messages.iter().filter_map(|message| match message.as_ref() {
            ChatMessage::Tool(result) => Some(&result.tool_call_id),
            _ => None,
        });
        let answered: BTreeSet<&ToolCallId> = results.filter(|id| calls.contains(id)).collect();
        found.retain_searches(|search| answered.contains(search));
        let loaded: BTreeSet<&str> = found.specs().map(|tool| tool.name.as_str()).collect();
        let listed: Vec<ToolSpec> =
            self.tools.iter().filter(|tool| !loaded.contains(tool.name.as_str())).cloned().collect();
        // Servers reject a request whose tools are all loaded later.
        if !listed.is_empty() {
            self.tools = listed.into();
            self.found_tools = found;
        }
    }

    /// Returns the found tools to the list, which was `tools` before they left it.
    pub(crate) fn list_found_tools(&mut self, tools: &Arc<[ToolSpec]>) {
        if !self.found_tools.is_empty() {
            self.found_tools = FoundTools::default();
            self.tools = Arc::clone(tools);
        }
    }
}

fn called_ids(message: &ChatMessage) -> impl Iterator<Item = &ToolCallId> {
    let calls = match message {
        ChatMessage::Assistant(reply) => reply.tool_calls.as_slice(),
        _ => &[],
    };
    calls.iter().map(|call| &call.id)
}

#[cfg(test)]
mod tests {
    use k8sops_core::ToolStatus;
    use serde_json::json;

    use super::*;
    use crate::test_support::{assistant_message, chat_request, found_tools, tool_call, tool_message, tool_spec};

    fn request() -> ChatRequest {
        let search = |id| assistant_message("", vec![tool_call(id, "find_tools", json!({"query": "x"}))]);
        let result = |id| tool_message(id, ToolStatus::Ok, "### a");
        let mut request = chat_request(vec![search("s1"), result("s1"), search("s2"), result("s2")]);
        request.tools = ["pods_list", "find_tools", "a"].map(tool_spec).into();
        request.found_tools = found_tools(&[("s1", "a b"), ("s2", "b c"), ("gone", "d")]);
        request
    }

    fn names<'a>(tools: impl IntoIterator<Item = &'a ToolSpec>) -> Vec<&'a str> {
        tools.into_iter().map(|tool| tool.name.as_str()).collect()
    }

    #[test]
    fn loaded_tools_leave_the_list() {
        let mut request = request();
        request.place_found_tools(FoundToolPlace::Conversation);
        assert_eq!(names(request.tools.iter()), ["pods_list", "find_tools"]);
        let found = &request.found_tools;
        assert_eq!(names(found.specs()), ["a", "b", "c"], "a search that is not in the conversation loads nothing");
        assert_eq!(names(found.find_by_search(&"s2".parse().unwrap())), ["b", "c"]);
        assert_eq!(names(found.find_new_by_search(&"s2".parse().unwrap())), ["c"]);
        let mut names = request.callable_tool_names();
        names.sort();
        assert_eq!(names, ["a", "b", "c", "find_tools", "pods_list"]);
    }

    #[test]
    fn list_is_as_it_was_without_loading() {
        let mut request = request();
        request.place_found_tools(FoundToolPlace::List);
        assert_eq!(names(request.tools.iter()), ["pods_list", "find_tools", "a"]);
        assert_eq!(request.found_tools, FoundTools::default());
    }

    #[test]
    fn one_tool_stays_in_the_list() {
        let mut request = request();
        request.tools = [tool_spec("a")].into();
        request.place_found_tools(FoundToolPlace::Conversation);
        assert_eq!(names(request.tools.iter()), ["a"]);
        assert_eq!(request.found_tools, FoundTools::default());
    }
}
