//! Names of tools that every model provider accepts, and the way back to the servers' names.
//!
//! Servers may call a tool as they like; providers accept `[A-Za-z_][A-Za-z0-9_-]{0,63}`
//! (Gemini no leading digit). As long as the same tools are listed, a name
//! means the same tool, in whatever order the servers connect: conversations and prompt caches contain the names.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Longest name that all providers accept.
const MAX_NAME_LEN: usize = 64;
/// Hexadecimal digits of the hash in each round. In the last round the name is only the hash.
const HASH_DIGITS: [usize; 4] = [8, 16, 32, MAX_NAME_LEN];

/// The names of a server and of a tool on that server.
pub(crate) type RemoteToolName = (String, String);

/// Assigns each tool the name under which models call it.
///
/// 1. A tool keeps its own name, with `_` for each character that is not accepted.
/// 2. If several servers have a tool of that name, each of these tools gets the name of its server as a prefix.
/// 3. A name that is too long is cut and ends in a hash; a name that is still not unique gets a hash, too.
pub(crate) fn assign_tool_names(tools: &BTreeSet<RemoteToolName>) -> BTreeMap<String, RemoteToolName> {
    let mut servers_by_name = BTreeMap::<String, BTreeSet<&str>>::new();
    for (server, tool) in tools {
        servers_by_name.entry(replace_rejected_chars(tool)).or_default().insert(server);
    }
    let mut rounds = tools.iter().map(|remote| (remote, 0)).collect::<BTreeMap<&RemoteToolName, usize>>();
    loop {
        let mut by_name = BTreeMap::<String, Vec<&RemoteToolName>>::new();
        for (remote, round) in &rounds {
            let plain = replace_rejected_chars(&remote.1);
            let is_shared = servers_by_name.get(&plain).is_some_and(|servers| servers.len() > 1);
            let base = if is_shared { format!("{}_{plain}", replace_rejected_chars(&remote.0)) } else { plain };
            by_name.entry(shorten_name(&base, remote, *round)).or_default().push(remote);
        }
        if by_name.values().all(|same| same.len() == 1) {
            return by_name
                .into_iter()
                .filter_map(|(name, same)| Some((name, same.first().copied()?.clone())))
                .collect();
        }
        // All tools with the same name go to the next round, so that no name depends on the order. The loop ends, because
        // after the last round a name is a whole hash, and no two tools have the same.
        for remote in by_name.into_values().filter(|same| same.len() > 1).flatten() {
            rounds.entry(remote).and_modify(|round| *round = (*round + 1).min(HASH_DIGITS.len()));
        }
    }
}

fn replace_rejected_chars(name: &str) -> String {
    let is_accepted = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    let mut name: String = name.chars().map(|char| if is_accepted(char) { char } else { '_' }).collect();
    if !name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_') {
        name.insert(0, '_');
    }
    name
}

/// Returns `base`, or the part of it that leaves space for the hash of this round.
fn shorten_name(base: &str, remote: &RemoteToolName, round: usize) -> String {
    if round == 0 && base.len() <= MAX_NAME_LEN {
        return base.to_owned();
    }
    let digits = HASH_DIGITS[round.saturating_sub(1)];
    let hash = hash_tool_name(remote);
    if digits >= MAX_NAME_LEN {
        return hash;
    }
    let base_len = MAX_NAME_LEN - digits - 1;
    // `base` is ASCII, so that every index is a character boundary.
    format!("{}_{}", &base[..base.len().min(base_len)], &hash[..digits])
}

/// Returns a hash of 64 hexadecimal digits.
fn hash_tool_name((server, tool): &RemoteToolName) -> String {
    let mut hasher = Sha256::new();
    hasher.update(server.len().to_le_bytes());
    hasher.update(server);
    hasher.update(tool);
    HEXLOWER.encode(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(tools: &[(&str, &str)]) -> Vec<(String, String, String)> {
        let tools = tools.iter().map(|(s, t)| ((*s).to_owned(), (*t).to_owned())).collect();
        assign_tool_names(&tools).into_iter().map(|(name, (server, tool))| (name, server, tool)).collect()
    }

    fn name_of(tools: &[(&str, &str)], server: &str, tool: &str) -> String {
        named(tools).into_iter().find(|(_, s, t)| s == server && t == tool).expect("every tool has a name").0
    }

    #[test]
    fn unique_names_stay_plain() {
        assert_eq!(name_of(&[("a", "pods_list"), ("b", "helm_list")], "a", "pods_list"), "pods_list");
        assert_eq!(name_of(&[("a", "pods/list.all")], "a", "pods/list.all"), "pods_list_all");
        assert_eq!(name_of(&[("a", "2fa")], "a", "2fa"), "_2fa");
    }

    #[test]
    fn shared_names_get_their_server_as_prefix() {
        let tools = [("prod", "get"), ("test", "get"), ("test", "scale")];
        assert_eq!(name_of(&tools, "prod", "get"), "prod_get");
        assert_eq!(name_of(&tools, "test", "get"), "test_get");
        assert_eq!(name_of(&tools, "test", "scale"), "scale");
    }

    #[test]
    fn colliding_names_get_a_hash() {
        let tools = [("a", "x.y"), ("a", "x/y"), ("a", "z")];
        let dot = name_of(&tools, "a", "x.y");
        let slash = name_of(&tools, "a", "x/y");
        assert!(dot.starts_with("x_y_") && slash.starts_with("x_y_") && dot != slash, "{dot} {slash}");
        assert_eq!(name_of(&tools, "a", "z"), "z");
    }

    #[test]
    fn prefixed_name_may_collide_with_a_plain_one() {
        let tools = [("a", "b_c"), ("a_b", "c"), ("x", "c"), ("x", "b_c")];
        let names = named(&tools).into_iter().map(|n| n.0).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn long_names_are_cut() {
        let long = "x".repeat(128);
        let name = name_of(&[("a", &long)], "a", &long);
        assert_eq!(name.len(), 64);
        assert!(name.starts_with("xxxx"));
    }

    #[test]
    fn imitated_hash_takes_no_other_name() {
        let tools = [("a", "x.y"), ("a", "x/y")];
        let imitated = name_of(&tools, "a", "x.y");
        let names = named(&[("a", "x.y"), ("a", "x/y"), ("b", &imitated)]);
        assert_eq!(names.iter().map(|n| &n.0).collect::<BTreeSet<_>>().len(), 3, "{names:?}");
    }

    fn tools() -> impl Strategy<Value = Vec<(String, String)>> {
        let server = prop_oneof!["[ab]{1,2}", "[ab_]{1,32}"];
        let tool = prop_oneof!["[ab._/]{0,3}", "[ab]{60,70}", "\\PC{0,12}"];
        prop::collection::vec((server, tool), 0..24)
    }

    proptest! {
        #[test]
        fn names_are_valid_and_unique(tools in tools()) {
            let set = tools.iter().cloned().collect::<BTreeSet<_>>();
            let names = assign_tool_names(&set);
            prop_assert_eq!(names.values().cloned().collect::<BTreeSet<_>>(), set.clone());
            prop_assert_eq!(names.len(), set.len());
            for name in names.keys() {
                prop_assert!((1..=64).contains(&name.len()), "{}", name);
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{}", name);
            }
        }

        #[test]
        fn names_do_not_depend_on_the_order(tools in tools().prop_shuffle()) {
            let forward = assign_tool_names(&tools.iter().cloned().collect());
            let backward = assign_tool_names(&tools.iter().rev().cloned().collect());
            prop_assert_eq!(forward, backward);
        }

        #[test]
        fn other_servers_do_not_change_names(tools in tools()) {
            let set = tools.into_iter().collect::<BTreeSet<_>>();
            let before = assign_tool_names(&set);
            let mut more = set.clone();
            more.insert(("zz".to_owned(), "quite-another-name".to_owned()));
            let after = assign_tool_names(&more);
            for (name, remote) in before {
                prop_assert_eq!(after.get(&name), Some(&remote));
            }
        }
    }
}
