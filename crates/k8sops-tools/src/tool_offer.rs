//! Which tools a model gets in every request, and which it finds with `find_tools`.
//!
//! The descriptions of tools are sent with every model call, and four common servers have more than a hundred. So if they do not
//! fit the budget, each server shows some of its tools, and the others are found by a search. What was found is added behind the
//! others at the start of the next run: a list that changed within a run would cost the provider's prompt cache.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use k8sops_core::ToolEffect;
use k8sops_models::{ToolBounds, ToolSpec, tokens};

use crate::{ToolOptions, tool_search::split_words};

/// Share of the budget that is filled in advance if not all tools fit. The rest is for those that are found.
const FILLED_SHARE: (usize, usize) = (3, 5);
/// Tokens of a tool's place in the request, besides its texts.
const TOKENS_PER_TOOL: usize = 12;

/// What `find_tools` costs itself, in tokens. Hiding less than that saves nothing.
const SEARCH_TOKENS: usize = 200;

/// Words in the names of tools that most investigations and fixes need.
const EVERYDAY_WORDS: &[&str] = &[
    "pod",
    "log",
    "event",
    "namespace",
    "resource",
    "deployment",
    "workload",
    "kubectl",
    "describe",
    "status",
    "history",
    "rollback",
    "application",
    "query",
];

/// How many tools a request may have, and how many tokens their descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemaBudget {
    /// Tokens of all servers' tools, with the tools that were found.
    pub(crate) request: usize,
    /// Tokens of one server's tools, before any was found.
    pub(crate) server: usize,
    /// Tools of a request.
    pub(crate) tools: usize,
}

impl SchemaBudget {
    /// Returns the budget of the operator within the bounds of the model servers.
    pub(crate) fn new(options: &ToolOptions, bounds: ToolBounds) -> Self {
        Self { request: options.max_schema_tokens, server: options.server_schema_tokens, tools: bounds.max_tools }
    }
}

/// Whether models get a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolOffer {
    /// It is part of every request.
    Always,
    /// The model finds it with `find_tools`, because not all tools fit the budget.
    OnSearch,
    /// No call of it could run: the operator's policy denies them all.
    Never,
}

/// A tool that may be offered.
pub(crate) struct OfferCandidate<'a> {
    pub(crate) spec: &'a ToolSpec,
    pub(crate) server: &'a str,
    pub(crate) effect: ToolEffect,
}

/// Returns the tokens of a tool in a request.
pub(crate) fn count_spec_tokens(spec: &ToolSpec) -> usize {
    let schema = serde_json::to_string(&spec.input_schema).unwrap_or_default();
    TOKENS_PER_TOOL + tokens::count(&spec.name) + tokens::count(&spec.description) + tokens::count(&schema)
}

/// Returns for each tool whether it is offered in advance: all of them if each server's fit its budget and all together fit that
/// of a request. Otherwise every server offers some, first those of everyday work, of these first the ones that only read, and
/// short ones before long ones.
pub(crate) fn select_offered(candidates: &[OfferCandidate<'_>], budget: SchemaBudget) -> Vec<bool> {
    let costs: Vec<usize> = candidates.iter().map(|candidate| count_spec_tokens(candidate.spec)).collect();
    let total: usize = costs.iter().sum();
    let mut by_server = BTreeMap::<&str, Vec<usize>>::new();
    for (at, candidate) in candidates.iter().enumerate() {
        by_server.entry(candidate.server).or_default().push(at);
    }
    let mut queues: Vec<VecDeque<usize>> = by_server
        .into_values()
        .map(|mut tools| {
            tools.sort_by_cached_key(|at| {
                let OfferCandidate { spec, effect, .. } = candidates[*at];
                (!is_everyday(&spec.name), effect != ToolEffect::Read, costs[*at], *at)
            });
            let mut tokens_left = budget.server;
            tools.retain(|at| {
                let fits = costs[*at] <= tokens_left;
                tokens_left -= if fits { costs[*at] } else { 0 };
                fits
            });
            tools.into()
        })
        .collect();
    let within_servers: usize = queues.iter().flatten().map(|at| costs[*at]).sum();
    let fits_request = candidates.len() <= budget.tools && total <= budget.request;
    if fits_request && total - within_servers <= SEARCH_TOKENS {
        return vec![true; candidates.len()];
    }
    let (filled, of) = FILLED_SHARE;
    let mut tokens_left = budget.request / of * filled;
    let mut tools_left = budget.tools / of * filled;
    let mut offered = vec![false; candidates.len()];
    while tools_left > 0 && queues.iter().any(|queue| !queue.is_empty()) {
        for queue in &mut queues {
            let Some(at) = queue.pop_front() else { continue };
            if costs[at] <= tokens_left && tools_left > 0 {
                tokens_left -= costs[at];
                tools_left -= 1;
                offered[at] = true;
            }
        }
    }
    offered
}

fn is_everyday(name: &str) -> bool {
    split_words(name).iter().any(|word| EVERYDAY_WORDS.contains(&word.as_str()))
}

/// Appends found tools to those that are offered in advance, the newest first as far as they fit.
pub(crate) fn append_found(offered: &[ToolSpec], found: &[&ToolSpec], budget: SchemaBudget) -> Vec<ToolSpec> {
    let mut tokens_left = budget.request.saturating_sub(offered.iter().map(count_spec_tokens).sum());
    let tools_left = budget.tools.saturating_sub(offered.len());
    let mut kept: Vec<&ToolSpec> = Vec::new();
    for spec in found.iter().rev() {
        let cost = count_spec_tokens(spec);
        if kept.len() < tools_left && cost <= tokens_left {
            tokens_left -= cost;
            kept.push(spec);
        }
    }
    // In the order in which they were found, so that a tool that is found later changes nothing before it.
    offered.iter().chain(kept.into_iter().rev()).cloned().collect()
}

/// Returns arguments of calls that only read, for tools whose effect depends on their arguments: a command line, a
/// sub-command, a dry run. If a tool has an argument of that kind, one of them can run although changes are denied.
pub(crate) fn read_probes(schema: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let words = ["kubectl get pods", "get pods", "get", "list", "status", "app list", "helm list", "argocd app list"];
    let mut probes = vec![Map::new()];
    for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut values: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
        values.extend([json!(["kubectl", "get", "pods"]), json!(["get", "pods"]), json!(true), json!("server")]);
        values.extend(property.get("enum").and_then(Value::as_array).into_iter().flatten().cloned());
        probes.extend(values.into_iter().map(|value| Map::from_iter([(key.clone(), value)])));
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_TOOLS: usize = 128;

    fn spec(name: &str, description_words: usize) -> ToolSpec {
        ToolSpec { name: name.to_owned(), description: "word ".repeat(description_words), input_schema: Map::new() }
    }

    fn select(tools: &[(ToolSpec, &str, ToolEffect)], budget: usize) -> Vec<String> {
        let candidates: Vec<_> =
            tools.iter().map(|(spec, server, effect)| OfferCandidate { spec, server, effect: *effect }).collect();
        let offered = select_offered(&candidates, SchemaBudget { request: budget, server: budget, tools: MAX_TOOLS });
        tools.iter().zip(offered).filter(|(_, offered)| *offered).map(|((spec, ..), _)| spec.name.clone()).collect()
    }

    #[test]
    fn all_tools_are_offered_if_they_fit() {
        let tools: Vec<_> = (0..20).map(|at| (spec(&format!("t{at:02}"), 10), "a", ToolEffect::Mutating)).collect();
        assert_eq!(select(&tools, 10_000).len(), 20);
    }

    #[test]
    fn every_server_shows_its_reads_first() {
        let mut tools = Vec::new();
        for server in ["a", "b"] {
            for at in 0..20 {
                tools.push((spec(&format!("{server}_get_{at:02}"), 50), server, ToolEffect::Read));
                tools.push((spec(&format!("{server}_set_{at:02}"), 10), server, ToolEffect::Mutating));
            }
        }
        let offered = select(&tools, 1_000);
        assert!(offered.iter().any(|name| name.starts_with("a_get")), "{offered:?}");
        assert!(offered.iter().any(|name| name.starts_with("b_get")), "{offered:?}");
        assert!(!offered.is_empty() && offered.len() < 30);
    }

    #[test]
    fn a_server_beyond_its_budget_offers_the_tools_of_everyday_work() {
        let tools = [
            (spec("nodes_stats", 100), ToolEffect::Read),
            (spec("pods_list", 100), ToolEffect::Read),
            (spec("projects_list", 10), ToolEffect::Read),
            (spec("resources_scale", 100), ToolEffect::Mutating),
            (spec("plugins_remove", 10), ToolEffect::Mutating),
            (spec("pods_log", 200), ToolEffect::Read),
            (spec("certificates_renew", 300), ToolEffect::Mutating),
        ];
        let candidates: Vec<_> =
            tools.iter().map(|(spec, effect)| OfferCandidate { spec, server: "k8s", effect: *effect }).collect();
        let names = |server| {
            let offered = select_offered(&candidates, SchemaBudget { request: 10_000, server, tools: MAX_TOOLS });
            tools
                .iter()
                .zip(offered)
                .filter(|(_, offered)| *offered)
                .map(|((spec, _), _)| &*spec.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(480), ["pods_list", "projects_list", "resources_scale", "pods_log"]);
        assert_eq!(names(2_000).len(), tools.len());
        // Little is saved by hiding one short tool.
        assert_eq!(names(900).len(), tools.len() - 1, "{:?}", names(900));
    }

    #[test]
    fn number_of_tools_is_bounded() {
        let tools: Vec<_> = (0..300).map(|at| (spec(&format!("t{at:03}"), 1), "a", ToolEffect::Read)).collect();
        let offered = select(&tools, 1_000_000);
        assert!(offered.len() < MAX_TOOLS && offered.len() > 50, "{}", offered.len());
        let base: Vec<ToolSpec> = tools.iter().take(76).map(|(spec, ..)| spec.clone()).collect();
        let found: Vec<&ToolSpec> = tools.iter().skip(76).map(|(spec, ..)| spec).collect();
        let budget = SchemaBudget { request: 1_000_000, server: 1_000_000, tools: MAX_TOOLS };
        let all = append_found(&base, &found, budget);
        assert_eq!(all.len(), MAX_TOOLS);
        assert_eq!(all[..76], base[..], "the prefix stays");
        assert_eq!(all.last(), found.last().copied(), "the newest is kept");
    }
}
