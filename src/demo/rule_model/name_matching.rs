//! Finds what a message names in the tables that the tools gave.

use super::{run_progress::NextStep, table::TableRow};

/// What a message's words fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameMatch<'r> {
    /// Rows that one word fits equally well; at least one.
    Rows(Vec<&'r TableRow>),
    /// No word fits a row.
    Nothing,
}

/// The rows that the first fitting word fits best: by its whole name, else by how it begins, else by a part of it.
/// `shop/cart` asks for the namespace too.
pub(super) fn match_rows<'r>(rows: &'r [TableRow], names: &[String]) -> NameMatch<'r> {
    let tests: [fn(&str, &str) -> bool; 3] = [
        |name, word| name == word,
        |name, word| name.strip_prefix(word).is_some_and(|rest| rest.starts_with('-')),
        |name, word| word.len() >= 3 && name.contains(word),
    ];
    for word in names {
        let (namespace, word) = word.split_once('/').map_or((None, word.as_str()), |(ns, name)| (Some(ns), name));
        for test in tests {
            let fits = |r: &&TableRow| namespace.is_none_or(|ns| r.get("NAMESPACE") == ns) && test(r.get("NAME"), word);
            let rows: Vec<&TableRow> = rows.iter().filter(fits).collect();
            if !rows.is_empty() {
                return NameMatch::Rows(rows);
            }
        }
    }
    NameMatch::Nothing
}

/// The one row that a message names; ends the turn when there is none or more than one.
pub(super) fn require_one_row<'r>(
    rows: &'r [TableRow],
    names: &[String],
    what: &str,
) -> Result<&'r TableRow, NextStep> {
    match match_rows(rows, names) {
        NameMatch::Rows(found) if found.len() == 1 => Ok(found[0]),
        NameMatch::Rows(found) => Err(NextStep::Reply(format!(
            "That fits {} {what}s. Say which one, by its whole name:\n\n{}",
            found.len(),
            bullet_list(&found)
        ))),
        NameMatch::Nothing => Err(NextStep::Reply(no_match_text(rows, names, what))),
    }
}

/// What to say when nothing fits.
pub(super) fn no_match_text(rows: &[TableRow], names: &[String], what: &str) -> String {
    let asked = names.first().map_or("that", String::as_str);
    let all: Vec<&TableRow> = rows.iter().collect();
    if all.is_empty() {
        return format!("I find no {what} called \"{asked}\", and no other {what} either.");
    }
    format!("I find no {what} called \"{asked}\". There are:\n\n{}", bullet_list(&all))
}

fn bullet_list(rows: &[&TableRow]) -> String {
    rows.iter().map(|r| format!("- {}", r.full_name())).collect::<Vec<_>>().join("\n")
}

/// The deployment in a pod's name, which ends in the hash of its ReplicaSet and five letters of its own.
pub(super) fn workload_name(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

/// Whether a pod's row shows it as it should be.
pub(super) fn is_healthy(pod: &TableRow) -> bool {
    let whole = pod.get("READY").split_once('/').is_some_and(|(ready, all)| ready == all);
    matches!(pod.get("STATUS"), "Completed" | "Succeeded") || (pod.get("STATUS") == "Running" && whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rule_model::table::parse_table;

    #[test]
    fn whole_names_go_before_beginnings_and_those_before_parts() {
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
