//! The operator's rules on tools: what a call does to the world and whether it needs approval, in the operator's word.

use std::collections::BTreeMap;

use regex::Regex;

use super::{
    load::{Layer, Loader},
    parse,
    yaml::Node,
};
use k8sops_core::ToolEffect;
use k8sops_tools::{ApprovalMode, ToolRule};

const EFFECT: &str = "read, idempotent or mutating";
const APPROVAL: &str = "ask, auto or deny";
const PATTERN: &str = "a regular expression, which must match the whole argument";

impl Loader {
    /// The rules of the strongest layer that has any.
    pub(super) fn rules(&mut self) -> Vec<ToolRule> {
        let strongest = self.layers.iter().rev().find_map(|layer| {
            let rules = layer.root.get("tools")?.get("rules")?.items();
            (!rules.is_empty()).then(|| (layer.clone(), rules.to_vec()))
        });
        let Some((layer, rules)) = strongest else { return Vec::new() };
        rules.iter().enumerate().filter_map(|(n, node)| self.rule(&layer, n, node)).collect()
    }

    fn rule(&mut self, layer: &Layer, n: usize, node: &Node) -> Option<ToolRule> {
        let before = self.problems.len();
        let path = |key: &str| format!("tools.rules[{n}].{key}");
        let mut one = |key: &str| -> Option<String> {
            let found = layer.found(node.get(key)?)?;
            self.in_force(path(key), &found.text, &found.origin);
            Some(found.text)
        };
        let (server, tool) = (one("server"), one("tool"));
        let (effect, approval, reason) = (one("effect"), one("approval"), one("reason"));
        let mut arguments = BTreeMap::new();
        for (name, value) in node.get("arguments").map(Node::entries).unwrap_or_default() {
            let text = value.text().unwrap_or_default();
            let path = path(&format!("arguments.{name}"));
            match whole(text) {
                Some(pattern) => {
                    self.in_force(path, text, &layer.origin(value));
                    arguments.insert(name.clone(), pattern);
                }
                None => self.wrong(&path, &parse::shown(text), &layer.origin(value), PATTERN),
            }
        }
        let origin = layer.origin(node);
        let effect = effect.and_then(|text| {
            let effect = match text.as_str() {
                "read" => Some(ToolEffect::Read),
                "idempotent" => Some(ToolEffect::Idempotent),
                "mutating" => Some(ToolEffect::Mutating),
                _ => None,
            };
            if effect.is_none() {
                self.wrong(&path("effect"), &parse::shown(&text), &origin, EFFECT);
            }
            effect
        });
        let approval = approval.and_then(|text| {
            let approval = ApprovalMode::parse(&text);
            if approval.is_none() {
                self.wrong(&path("approval"), &parse::shown(&text), &origin, APPROVAL);
            }
            approval
        });
        if effect.is_none() && approval.is_none() && self.problems.len() == before {
            self.problems
                .push(format!("{origin}: tools.rules[{n}] says nothing; give it an effect, an approval or both"));
        }
        (self.problems.len() == before).then(|| ToolRule {
            server: server.as_deref().map(glob),
            tool: tool.as_deref().map(glob),
            arguments,
            effect,
            approval,
            reason,
        })
    }
}

/// A pattern that matches a whole text.
fn whole(pattern: &str) -> Option<Regex> {
    // Alone first: a pattern like `a)(b` would be made valid by what is put around it.
    Regex::new(pattern).ok().filter(|_| !pattern.is_empty())?;
    Regex::new(&format!(r"\A(?s:{pattern})\z")).ok()
}

/// `*` for any characters, `?` for one; all else is itself.
fn glob(text: &str) -> Regex {
    let pattern = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!(r"\A(?s:{pattern})\z")).expect("an escaped text is a pattern")
}
