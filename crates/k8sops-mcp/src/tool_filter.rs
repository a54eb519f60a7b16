//! The operator's choice of a server's tools.

use crate::{SkippedTool, tool_discovery::DiscoveredTools};

/// Why an excluded tool is not offered.
const EXCLUDED: &str = "excluded by mcp.servers[].tools";

/// Which tools of a server are used. In the patterns `*` stands for any characters and `?` for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolFilter {
    /// Patterns of names of which one must match; empty: every tool.
    pub include: Vec<String>,
    /// Patterns of names of which none may match.
    pub exclude: Vec<String>,
}

impl ToolFilter {
    /// Whether a tool is used.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| matches_pattern(pattern, name));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }

    /// Moves the tools that are not used to the skipped ones.
    pub(crate) fn apply(&self, discovered: &mut DiscoveredTools) {
        let (kept, excluded): (Vec<_>, Vec<_>) =
            std::mem::take(&mut discovered.tools).into_iter().partition(|tool| self.allows(&tool.name));
        discovered.tools = kept;
        let excluded = excluded.into_iter().map(|tool| SkippedTool { name: tool.name, reason: EXCLUDED.to_owned() });
        discovered.skipped.extend(excluded);
    }
}

/// Whether a pattern matches a whole name. After a mismatch, the last `*` takes one more character.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let mut in_pattern = 0;
    let mut in_name = 0;
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(in_pattern) {
            Some('*') => {
                star = Some((in_pattern, in_name));
                in_pattern += 1;
            }
            Some(&char) if char == '?' || char == name[in_name] => {
                in_pattern += 1;
                in_name += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                in_pattern = star_at + 1;
                in_name = taken + 1;
            }
        }
    }
    pattern[in_pattern..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_tools() {
        let filter = |include: &[&str], exclude: &[&str]| ToolFilter {
            include: include.iter().map(|pattern| (*pattern).to_owned()).collect(),
            exclude: exclude.iter().map(|pattern| (*pattern).to_owned()).collect(),
        };
        let rows = [
            (filter(&[], &[]), "pods_list", true),
            (filter(&["pods_*"], &[]), "pods_list", true),
            (filter(&["pods_*"], &[]), "helm_list", false),
            (filter(&["*_list"], &["helm_*"]), "helm_list", false),
            (filter(&["*_l*t"], &[]), "pods_list_last", true),
            (filter(&[], &["pods_?xec"]), "pods_exec", false),
            (filter(&[], &["pods"]), "pods_exec", true),
            (filter(&["*"], &["*"]), "pods_exec", false),
        ];
        for (filter, name, allowed) in rows {
            assert_eq!(filter.allows(name), allowed, "{filter:?} {name}");
        }
    }
}
