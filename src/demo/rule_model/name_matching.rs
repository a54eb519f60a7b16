//! Finds the table rows that the words of a message name.

use super::{run_progress::NextStep, table::KubectlRow};

/// The rows that match the words of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameMatch<'r> {
    /// One or more rows that match a word equally well.
    Rows(Vec<&'r KubectlRow>),
    /// No row matches any word.
    Nothing,
}

/// Returns the best matches of the first word that matches any row: by whole name, else by prefix, else by substring.
/// A word such as `shop/cart` also selects the namespace.
pub(super) fn match_rows<'r>(rows: &'r [KubectlRow], names: &[String]) -> NameMatch<'r> {
    let tests: [fn(&str, &str) -> bool; 3] = [
        |name, word| name == word,
        |name, word| name.strip_prefix(word).is_some_and(|rest| rest.starts_with('-')),
        |name, word| word.len() >= 3 && name.contains(word),
    ];
    for word in names {
        let (namespace, word) = word.split_once('/').map_or((None, word.as_str()), |(ns, name)| (Some(ns), name));
        for test in tests {
            let matches =
                |r: &&KubectlRow| namespace.is_none_or(|ns| r.get("NAMESPACE") == ns) && test(r.get("NAME"), word);
            let rows: Vec<&KubectlRow> = rows.iter().filter(matches).collect();
            if !rows.is_empty() {
                return NameMatch::Rows(rows);
            }
        }
    }
    NameMatch::Nothing
}

/// Returns the only row that a message names. The run ends with a reply if there is none, or more than one.
pub(super) fn require_one_row<'r>(
    rows: &'r [KubectlRow],
    names: &[String],
    noun: &str,
) -> Result<&'r KubectlRow, NextStep> {
    match match_rows(rows, names) {
        NameMatch::Rows(found) if found.len() == 1 => Ok(found[0]),
        NameMatch::Rows(found) => Err(NextStep::Reply(format!(
            "{} {noun}s match. Repeat the command with one of these names:\n\n{}",
            found.len(),
            bullet_list(&found)
        ))),
        NameMatch::Nothing => Err(NextStep::Reply(no_match_text(rows, names, noun))),
    }
}

/// Returns the reply if no row matches.
pub(super) fn no_match_text(rows: &[KubectlRow], names: &[String], noun: &str) -> String {
    let wanted = names.first().map_or("that", String::as_str);
    let all: Vec<&KubectlRow> = rows.iter().collect();
    if all.is_empty() {
        return format!("No {noun} is named \"{wanted}\", and there is no other {noun}.");
    }
    format!("No {noun} is named \"{wanted}\". Available:\n\n{}", bullet_list(&all))
}

fn bullet_list(rows: &[&KubectlRow]) -> String {
    rows.iter().map(|r| format!("- {}", r.full_name())).collect::<Vec<_>>().join("\n")
}

/// Returns the deployment in a pod's name, which ends in the hash of its ReplicaSet and five random letters.
pub(super) fn workload_name(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

/// Returns whether a pod's row shows a ready or completed pod.
pub(super) fn is_healthy(pod: &KubectlRow) -> bool {
    let all_ready = pod.get("READY").split_once('/').is_some_and(|(ready, all)| ready == all);
    matches!(pod.get("STATUS"), "Completed" | "Succeeded") || (pod.get("STATUS") == "Running" && all_ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rule_model::table::parse_table;

    #[test]
    fn whole_names_match_before_prefixes_and_substrings() {
        let rows = parse_table("NAMESPACE  NAME\na  cart\na  cart-db\nb  my-cart\nb  web");
        let names = |words: &[&str]| match match_rows(&rows, &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
        {
            NameMatch::Rows(rows) => rows.iter().map(|r| r.full_name()).collect(),
            NameMatch::Nothing => Vec::new(),
        };
        assert_eq!(names(&["cart"]), ["a/cart"]);
        assert_eq!(names(&["b/cart"]), ["b/my-cart"]);
        assert_eq!(names(&["my"]), ["b/my-cart"]);
        assert_eq!(names(&["art"]), ["a/cart", "a/cart-db", "b/my-cart"]);
        assert_eq!(names(&["nothing", "web"]), ["b/web"]);
        assert!(names(&["nothing"]).is_empty());
        assert_eq!(workload_name("payments-api-bcdfg2456-xyz12"), "payments-api");
        assert_eq!(workload_name("bare"), "bare");
    }
}
