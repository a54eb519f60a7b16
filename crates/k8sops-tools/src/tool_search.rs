//! The built-in tool `find_tools`, with which the model finds tools that are not part of every request.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use serde_json::{Map, Value, json};

use k8sops_core::{ChatMessage, EmbeddingVector, ToolMessage};
use k8sops_mcp::{RemoteTool, ToolHints};
use k8sops_models::{EmbeddingModel, ToolSpec};

/// Name of the tool.
pub(crate) const FIND_TOOLS: &str = "find_tools";
/// Tools that one search returns, by default and at most.
const DEFAULT_RESULTS: usize = 5;
const MAX_RESULTS: usize = 10;
/// What stands before the name of a tool in a result.
const RESULT_HEADING: &str = "### ";
/// Names of hidden tools that the description lists, in bytes.
const MAX_NAME_LIST_BYTES: usize = 700;
/// Tools that are listed if none is found: bytes of a description, and of all lines.
const MAX_SUMMARY_LINE_BYTES: usize = 80;
const MAX_SUMMARY_BYTES: usize = 2_000;
/// Similarity from which on a tool is found by its meaning alone.
const MIN_SIMILARITY: f32 = 0.35;
/// Weight of the meaning compared with that of words.
const SIMILARITY_WEIGHT: f32 = 6.0;

/// Returns the built-in tool for a search among these tools, by the name of their server.
pub(crate) fn find_tools_tool(hidden: &BTreeMap<&str, Vec<&str>>) -> RemoteTool {
    let bytes_per_server = MAX_NAME_LIST_BYTES / hidden.len().max(1);
    let lists: Vec<String> =
        hidden.iter().map(|(server, tools)| format!("{server}: {}", list_names(tools, bytes_per_server))).collect();
    let description = format!(
        "Finds tools that are not listed here, by words for what you need. They can be called by their names at once. Not \
         listed: {}",
        lists.join("; ")
    );
    let properties = json!({
        "query": {"type": "string", "description": "What the tool is to do, or a part of its name"},
        "limit": {"type": "integer", "default": DEFAULT_RESULTS},
    });
    let schema = json!({"type": "object", "properties": properties, "required": ["query"]});
    RemoteTool {
        name: FIND_TOOLS.to_owned(),
        title: None,
        description,
        input_schema: schema.as_object().cloned().unwrap_or_default(),
        hints: ToolHints { read_only: Some(true), ..ToolHints::default() },
    }
}

/// Lists names as far as they fit, and counts the others.
fn list_names(names: &[&str], max_bytes: usize) -> String {
    let mut bytes = 0;
    let shown = names.iter().take_while(|name| {
        bytes += name.len() + 2;
        bytes <= max_bytes
    });
    let shown: Vec<&str> = shown.copied().collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more if shown.is_empty() => format!("{more} tools"),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Lists tools with the beginnings of their descriptions, as far as they fit: the names say what a search can find.
fn summarize_tools(tools: &[ToolSpec]) -> String {
    let mut summary = String::new();
    for spec in tools {
        let end = spec.description.floor_char_boundary(MAX_SUMMARY_LINE_BYTES);
        let line = spec.description[..end].lines().next().unwrap_or_default();
        if summary.len() + spec.name.len() + line.len() > MAX_SUMMARY_BYTES {
            summary.push_str("- …\n");
            break;
        }
        let _ = writeln!(summary, "- {}: {line}", spec.name);
    }
    summary
}

/// A search that cannot be made. The message is for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SearchError {
    #[error("the argument `query` is missing; say what the tool is to do")]
    NoQuery,
}

/// Searches tools by words and, with an embedding model, by meaning.
#[derive(Default)]
pub(crate) struct ToolSearch {
    embedder: Option<Arc<dyn EmbeddingModel>>,
    /// Vectors of the texts of tools. Never held across an await.
    vectors: parking_lot::Mutex<BTreeMap<String, EmbeddingVector>>,
}

impl ToolSearch {
    pub(crate) fn new(embedder: Option<Arc<dyn EmbeddingModel>>) -> Self {
        Self { embedder, vectors: parking_lot::Mutex::default() }
    }

    /// Returns the text of a result for the model.
    ///
    /// # Errors
    /// [`SearchError`] without a query.
    pub(crate) async fn find_tools(
        &self,
        hidden: &[ToolSpec],
        arguments: &Map<String, Value>,
    ) -> Result<String, SearchError> {
        let query = arguments.get("query").and_then(Value::as_str).unwrap_or_default().trim();
        if query.is_empty() {
            return Err(SearchError::NoQuery);
        }
        let limit = arguments.get("limit").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(DEFAULT_RESULTS).clamp(1, MAX_RESULTS);
        let similarities = self.similarities(hidden, query).await;
        let word_scores = score_tools(hidden, &split_words(query));
        let mut scored: Vec<(f32, &ToolSpec)> = hidden
            .iter()
            .enumerate()
            .map(|(at, spec)| {
                let similarity = similarities.get(at).copied().filter(|value| *value >= MIN_SIMILARITY);
                let by_words = word_scores.get(at).copied().unwrap_or_default();
                (by_words + similarity.unwrap_or_default() * SIMILARITY_WEIGHT, spec)
            })
            .filter(|(score, _)| *score > 0.0)
            .collect();
        scored.sort_by(|(a, first), (b, second)| b.total_cmp(a).then_with(|| first.name.cmp(&second.name)));
        if scored.is_empty() {
            let tools = summarize_tools(hidden);
            return Ok(format!("No tool matches {query:?}. Search for one of these by its name:\n{tools}"));
        }
        let results = scored.into_iter().take(limit).map(|(_, spec)| {
            let schema = serde_json::to_string(&spec.input_schema).unwrap_or_default();
            format!("{RESULT_HEADING}{}\n{}\narguments: {schema}", spec.name, spec.description)
        });
        let results = results.collect::<Vec<_>>().join("\n\n");
        Ok(format!("These tools can be called by their names now:\n\n{results}"))
    }

    /// Returns the similarity of each tool to the query; empty without an embedding model, or if it fails.
    async fn similarities(&self, tools: &[ToolSpec], query: &str) -> Vec<f32> {
        let Some(embedder) = &self.embedder else { return Vec::new() };
        let text = |spec: &ToolSpec| format!("{}: {}", spec.name.replace('_', " "), spec.description);
        let texts: Vec<String> = tools.iter().map(text).collect();
        let unknown: Vec<String> = {
            let vectors = self.vectors.lock();
            texts.iter().filter(|text| !vectors.contains_key(*text)).cloned().collect()
        };
        let mut wanted = unknown.clone();
        wanted.push(query.to_owned());
        let found_vectors = match embedder.embed(&wanted).await {
            Ok(found_vectors) => found_vectors,
            Err(error) => {
                tracing::warn!(%error, "tool search by meaning failed");
                return Vec::new();
            }
        };
        let mut found_vectors = found_vectors.into_iter();
        let mut vectors = self.vectors.lock();
        // Tools that are gone are forgotten.
        vectors.retain(|text, _| texts.contains(text));
        vectors.extend(unknown.into_iter().zip(&mut found_vectors));
        let Some(query) = found_vectors.next() else { return Vec::new() };
        let similarity = |text: &String| vectors.get(text).map_or(0.0, |vector| dot_product(vector, &query));
        texts.iter().map(similarity).collect()
    }
}

/// The similarity of two vectors of length 1.
fn dot_product(a: &EmbeddingVector, b: &EmbeddingVector) -> f32 {
    a.values.iter().zip(b.values.iter()).map(|(a, b)| a * b).sum()
}

/// Splits a text into lower-case words, also at `_` and between small and capital letters, without plurals.
pub(crate) fn split_words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut word = String::new();
    let mut was_lower = false;
    for char in text.chars().chain([' ']) {
        let starts_word = char.is_uppercase() && was_lower;
        if (!char.is_alphanumeric() || starts_word) && !word.is_empty() {
            let whole = std::mem::take(&mut word);
            let singular = whole.strip_suffix('s').filter(|singular| singular.len() > 2).unwrap_or(&whole);
            words.insert(singular.to_owned());
        }
        was_lower = char.is_lowercase();
        if char.is_alphanumeric() {
            word.extend(char.to_lowercase());
        }
    }
    words
}

/// The words of a tool's texts.
struct ToolWords {
    name: BTreeSet<String>,
    description: BTreeSet<String>,
    arguments: BTreeSet<String>,
}

impl ToolWords {
    fn new(spec: &ToolSpec) -> Self {
        let properties = spec.input_schema.get("properties").and_then(Value::as_object);
        Self {
            name: split_words(&spec.name),
            description: split_words(&spec.description),
            arguments: properties.into_iter().flatten().flat_map(|(key, _)| split_words(key)).collect(),
        }
    }

    /// Returns how well a word of the query fits the tool.
    fn score_word(&self, word: &str) -> f32 {
        let matches = |words: &BTreeSet<String>| {
            let is_stem =
                |other: &String| other.starts_with(word) || other.len() > 3 && word.starts_with(other.as_str());
            words.contains(word) || word.len() > 3 && words.iter().any(is_stem)
        };
        if matches(&self.name) {
            5.0
        } else if matches(&self.description) {
            1.5
        } else if matches(&self.arguments) {
            1.0
        } else {
            0.0
        }
    }
}

/// Returns the score of each tool. A word that fits fewer tools counts more: half of all tools are called `get` something.
fn score_tools(tools: &[ToolSpec], query: &BTreeSet<String>) -> Vec<f32> {
    let words: Vec<ToolWords> = tools.iter().map(ToolWords::new).collect();
    let mut scores = vec![0.0; tools.len()];
    for word in query {
        let fits: Vec<f32> = words.iter().map(|words| words.score_word(word)).collect();
        let count = fits.iter().filter(|fit| **fit > 0.0).count();
        let rarity = count_to_f32(tools.len() + 1) / count_to_f32(count + 1);
        for (score, fit) in scores.iter_mut().zip(fits) {
            *score += fit * rarity.ln_1p();
        }
    }
    scores
}

/// A count of tools, of which there are a few thousand at most.
fn count_to_f32(count: usize) -> f32 {
    u16::try_from(count).map_or(f32::from(u16::MAX), f32::from)
}

/// Returns the results of the searches in a conversation.
pub(crate) fn search_results(messages: &[Arc<ChatMessage>]) -> impl Iterator<Item = &ToolMessage> {
    let mut searches = BTreeSet::new();
    messages.iter().filter_map(move |message| match message.as_ref() {
        ChatMessage::Assistant(reply) => {
            searches.extend(reply.tool_calls.iter().filter(|call| call.name == FIND_TOOLS).map(|call| &call.id));
            None
        }
        ChatMessage::Tool(result) if searches.contains(&result.tool_call_id) => Some(result),
        _ => None,
    })
}

/// Returns the names of the tools that a search found.
pub(crate) fn found_in_result(result: &ToolMessage) -> impl Iterator<Item = &str> {
    result.content.lines().filter_map(|line| line.strip_prefix(RESULT_HEADING))
}

/// Returns the names of the tools that earlier calls found or used, each once.
pub(crate) fn found_names(messages: &[Arc<ChatMessage>]) -> Vec<String> {
    let replies = messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::Assistant(reply) => Some((reply.seq, &reply.tool_calls)),
        _ => None,
    });
    let called = replies.flat_map(|(seq, calls)| {
        calls.iter().filter(|call| call.name != FIND_TOOLS).map(move |call| (seq, call.name.as_str()))
    });
    let found = search_results(messages).flat_map(|result| found_in_result(result).map(|name| (result.seq, name)));
    let mut names: Vec<(u64, &str)> = called.chain(found).collect();
    // In the order in which they first occurred, so that a tool that is found later changes nothing before it.
    names.sort_by_key(|(seq, _)| *seq);
    let mut known = BTreeSet::new();
    names.into_iter().filter(|(_, name)| known.insert(*name)).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, description: &str) -> ToolSpec {
        let schema = json!({"type": "object", "properties": {"releaseName": {"type": "string"}}});
        let input_schema = schema.as_object().cloned().unwrap_or_default();
        ToolSpec { name: name.to_owned(), description: description.to_owned(), input_schema }
    }

    async fn find(query: &str) -> Vec<String> {
        let tools = [
            spec("helm_rollback", "Returns a release to an earlier revision."),
            spec("helm_install", "Installs a chart."),
            spec("argocd_app_sync", "Deploys the desired state of an application."),
            spec("listCustomResources", "Shows objects of any kind."),
        ];
        let arguments = json!({"query": query, "limit": 2});
        let text = ToolSearch::default().find_tools(&tools, arguments.as_object().unwrap()).await.unwrap();
        text.lines().filter_map(|line| line.strip_prefix(RESULT_HEADING)).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn tools_are_found_by_their_words() {
        assert_eq!(find("helm rollback").await[0], "helm_rollback");
        assert_eq!(find("install charts").await[0], "helm_install");
        assert_eq!(find("deploy an application").await[0], "argocd_app_sync");
        assert_eq!(find("custom resource").await[0], "listCustomResources");
        assert_eq!(find("sync").await, ["argocd_app_sync"]);
        assert!(find("weather").await.is_empty());
    }

    #[tokio::test]
    async fn search_that_finds_nothing_names_what_there_is() {
        let tools: Vec<ToolSpec> =
            (0..200).map(|at| spec(&format!("tool_{at:03}"), "Returns the sum of two numbers.")).collect();
        let arguments = json!({"query": "add"});
        let text = ToolSearch::default().find_tools(&tools, arguments.as_object().unwrap()).await.unwrap();
        assert!(text.contains("\n- tool_000: Returns the sum of two numbers.\n"), "{text}");
        assert!(text.ends_with("- …\n") && text.len() < 2_200, "{}", text.len());
        assert!(!text.contains(RESULT_HEADING), "they are not found yet");
    }

    #[tokio::test]
    async fn search_without_words_is_an_error() {
        let error = ToolSearch::default().find_tools(&[], &Map::new()).await;
        assert_eq!(error, Err(SearchError::NoQuery));
    }

    #[test]
    fn description_names_servers_and_tools() {
        let tool =
            find_tools_tool(&BTreeMap::from([("helm", vec!["helm_list", "helm_get"]), ("argocd", vec!["sync"])]));
        assert!(
            tool.description.ends_with("Not listed: argocd: sync; helm: helm_list, helm_get"),
            "{}",
            tool.description
        );
        let many: Vec<String> = (0..300).map(|at| format!("tool_{at:03}")).collect();
        let many = many.iter().map(String::as_str).collect();
        let tool = find_tools_tool(&BTreeMap::from([("helm", vec!["helm_list"]), ("many", many)]));
        assert!(tool.description.contains("helm: helm_list; many: tool_000, "), "{}", tool.description);
        assert!(tool.description.ends_with(" more") && tool.description.len() < 1024, "{}", tool.description);
    }
}
