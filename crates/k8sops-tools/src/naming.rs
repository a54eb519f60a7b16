//! Names of tools that every provider accepts, and the way back to the servers' names.
//!
//! Servers may name a tool as they like; providers accept `[A-Za-z0-9_-]{1,64}`. A name must mean the same tool for as long
//! as the same tools are there, whatever order the servers came in: conversations and prompt caches hold on to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use sha2::{Digest, Sha256};

/// The longest name that all providers accept.
const MAX_LEN: usize = 64;
/// Hexadecimal digits of the hash, round by round; with the last there is nothing of the tool's own name left.
const HASH_DIGITS: [usize; 4] = [8, 16, 32, MAX_LEN];

/// A tool as it is named where it lives: the server's name and the tool's.
pub(super) type Remote = (String, String);

/// Gives each tool its name for the models.
///
/// 1. A tool keeps its own name, with `_` for each character that is not accepted.
/// 2. Where several servers have that name, each of them has its server's name in front.
/// 3. What is too long is cut and ends in a hash; what is still not unique gets a hash too.
pub(super) fn names(tools: &BTreeSet<Remote>) -> BTreeMap<String, Remote> {
    let mut servers_of = BTreeMap::<String, BTreeSet<&str>>::new();
    for (server, tool) in tools {
        servers_of.entry(accepted(tool)).or_default().insert(server);
    }
    let mut rounds = tools.iter().map(|remote| (remote, 0)).collect::<BTreeMap<&Remote, usize>>();
    loop {
        let mut by_name = BTreeMap::<String, Vec<&Remote>>::new();
        for (remote, round) in &rounds {
            let plain = accepted(&remote.1);
            let shared = servers_of.get(&plain).is_some_and(|servers| servers.len() > 1);
            let base = if shared { format!("{}_{plain}", accepted(&remote.0)) } else { plain };
            by_name.entry(shaped(&base, remote, *round)).or_default().push(remote);
        }
        if by_name.values().all(|same| same.len() == 1) {
            return by_name
                .into_iter()
                .filter_map(|(name, same)| Some((name, same.first().copied()?.clone())))
                .collect();
        }
        // Every one of a group moves on, so that none depends on which came first. This ends: after the last round a
        // name is a whole hash, and no two tools have the same.
        for remote in by_name.into_values().filter(|same| same.len() > 1).flatten() {
            rounds.entry(remote).and_modify(|round| *round = (*round + 1).min(HASH_DIGITS.len()));
        }
    }
}

fn accepted(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// `base`, or as much of it as leaves room for the hash of this round.
fn shaped(base: &str, remote: &Remote, round: usize) -> String {
    if round == 0 && base.len() <= MAX_LEN {
        return base.to_owned();
    }
    let digits = HASH_DIGITS[round.saturating_sub(1)];
    let hash = hash(remote);
    if digits >= MAX_LEN {
        return hash;
    }
    let room = MAX_LEN - digits - 1;
    // All of `base` is ASCII.
    format!("{}_{}", &base[..base.len().min(room)], &hash[..digits])
}

/// 64 hexadecimal digits.
fn hash((server, tool): &Remote) -> String {
    let mut hasher = Sha256::new();
    hasher.update(server.len().to_le_bytes());
    hasher.update(server);
    hasher.update(tool);
    hasher.finalize().iter().fold(String::with_capacity(MAX_LEN), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(tools: &[(&str, &str)]) -> Vec<(String, String, String)> {
        let tools = tools.iter().map(|(s, t)| ((*s).to_owned(), (*t).to_owned())).collect();
        names(&tools).into_iter().map(|(name, (server, tool))| (name, server, tool)).collect()
    }

    fn name_of(tools: &[(&str, &str)], server: &str, tool: &str) -> String {
        named(tools).into_iter().find(|(_, s, t)| s == server && t == tool).expect("every tool has a name").0
    }

    #[test]
    fn a_name_of_one_server_stays_plain() {
        assert_eq!(name_of(&[("a", "pods_list"), ("b", "helm_list")], "a", "pods_list"), "pods_list");
        assert_eq!(name_of(&[("a", "pods/list.all")], "a", "pods/list.all"), "pods_list_all");
    }

    #[test]
    fn a_name_of_two_servers_gets_the_server_in_front_of_both() {
        let tools = [("prod", "get"), ("test", "get"), ("test", "scale")];
        assert_eq!(name_of(&tools, "prod", "get"), "prod_get");
        assert_eq!(name_of(&tools, "test", "get"), "test_get");
        assert_eq!(name_of(&tools, "test", "scale"), "scale");
    }

    #[test]
    fn names_that_become_the_same_get_a_hash() {
        let tools = [("a", "x.y"), ("a", "x/y"), ("a", "z")];
        let (dot, slash) = (name_of(&tools, "a", "x.y"), name_of(&tools, "a", "x/y"));
        assert!(dot.starts_with("x_y_") && slash.starts_with("x_y_") && dot != slash, "{dot} {slash}");
        assert_eq!(name_of(&tools, "a", "z"), "z");
    }

    #[test]
    fn a_name_in_front_may_meet_a_plain_one() {
        let tools = [("a", "b_c"), ("a_b", "c"), ("x", "c"), ("x", "b_c")];
        let names = named(&tools).into_iter().map(|n| n.0).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn a_long_name_is_cut_with_a_hash() {
        let long = "x".repeat(128);
        let name = name_of(&[("a", &long)], "a", &long);
        assert_eq!(name.len(), 64);
        assert!(name.starts_with("xxxx"));
    }

    #[test]
    fn a_name_that_imitates_a_hash_takes_no_other_tools_name() {
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
        fn names_are_valid_unique_and_lead_back(tools in tools()) {
            let set = tools.iter().cloned().collect::<BTreeSet<_>>();
            let names = names(&set);
            prop_assert_eq!(names.values().cloned().collect::<BTreeSet<_>>(), set.clone());
            prop_assert_eq!(names.len(), set.len());
            for name in names.keys() {
                prop_assert!((1..=64).contains(&name.len()), "{}", name);
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{}", name);
            }
        }

        #[test]
        fn names_do_not_depend_on_the_order(tools in tools().prop_shuffle()) {
            // The set has no order, and neither has what is made of it: built twice from two orders.
            let forward = names(&tools.iter().cloned().collect());
            let backward = names(&tools.iter().rev().cloned().collect());
            prop_assert_eq!(forward, backward);
        }

        #[test]
        fn a_server_with_names_of_its_own_changes_no_others(tools in tools()) {
            let set = tools.into_iter().collect::<BTreeSet<_>>();
            let before = names(&set);
            let mut more = set.clone();
            more.insert(("zz".to_owned(), "quite-another-name".to_owned()));
            let after = names(&more);
            for (name, remote) in before {
                prop_assert_eq!(after.get(&name), Some(&remote));
            }
        }
    }
}
