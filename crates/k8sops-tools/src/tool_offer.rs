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
use k8sops_models::{ToolSpec, tokens};

/// Share of the budget that is filled in advance if not all tools fit. The rest is for those that are found.
const FILLED_SHARE: (usize, usize) = (3, 5);
/// Tokens of a tool's place in the request, besides its texts.
const TOKENS_PER_TOOL: usize = 12;

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

/// Returns for each tool whether it is offered in advance: all of them if they fit `budget` tokens and the largest number of
/// tools. Otherwise every server gets its turn, with tools that only read first and short ones before long ones.
pub(crate) fn select_offered(candidates: &[OfferCandidate<'_>], budget: usize, max_tools: usize) -> Vec<bool> {
    let costs: Vec<usize> = candidates.iter().map(|candidate| count_spec_tokens(candidate.spec)).collect();
    if candidates.len() <= max_tools && costs.iter().sum::<usize>() <= budget {
        return vec![true; candidates.len()];
    }
    let (filled, of) = FILLED_SHARE;
    let mut tokens_left = budget / of * filled;
    let mut tools_left = max_tools * filled / of;
    let mut by_server = BTreeMap::<&str, Vec<usize>>::new();
    for (at, candidate) in candidates.iter().enumerate() {
        by_server.entry(candidate.server).or_default().push(at);
    }
    let mut queues: Vec<VecDeque<usize>> = by_server
        .into_values()
        .map(|mut tools| {
            tools.sort_by_key(|at| (candidates[*at].effect != ToolEffect::Read, costs[*at], *at));
            tools.into()
        })
        .collect();
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

/// Appends found tools to those that are offered in advance, the newest first as far as they fit.
pub(crate) fn append_found(
    offered: &[ToolSpec],
    found: &[&ToolSpec],
    budget: usize,
    max_tools: usize,
) -> Vec<ToolSpec> {
    let mut tokens_left = budget.saturating_sub(offered.iter().map(count_spec_tokens).sum());
    let tools_left = max_tools.saturating_sub(offered.len());
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

    fn spec(name: &str, description_words: usize) -> ToolSpec {
        ToolSpec { name: name.to_owned(), description: "word ".repeat(description_words), input_schema: Map::new() }
    }

    fn select(tools: &[(ToolSpec, &str, ToolEffect)], budget: usize) -> Vec<String> {
        let candidates: Vec<_> =
            tools.iter().map(|(spec, server, effect)| OfferCandidate { spec, server, effect: *effect }).collect();
        let offered = select_offered(&candidates, budget, 128);
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
    fn number_of_tools_is_bounded() {
        let tools: Vec<_> = (0..300).map(|at| (spec(&format!("t{at:03}"), 1), "a", ToolEffect::Read)).collect();
        let offered = select(&tools, 1_000_000);
        assert!(offered.len() < 128 && offered.len() > 50, "{}", offered.len());
        let base: Vec<ToolSpec> = tools.iter().take(76).map(|(spec, ..)| spec.clone()).collect();
        let found: Vec<&ToolSpec> = tools.iter().skip(76).map(|(spec, ..)| spec).collect();
        let all = append_found(&base, &found, 1_000_000, 128);
        assert_eq!(all.len(), 128);
        assert_eq!(all[..76], base[..], "the prefix stays");
        assert_eq!(all.last(), found.last().copied(), "the newest is kept");
    }
}
