//! Finds what a message names in the tables that the tools gave.

use super::{table::Row, turn::Step};

/// What a message's words fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'r> {
    /// Rows that one word fits equally well; at least one.
    Some(Vec<&'r Row>),
    /// No word fits a row.
    None,
}

/// The rows that the first fitting word fits best: by its whole name, else by how it begins, else by a part of it.
/// `shop/cart` asks for the namespace too.
pub(super) fn find<'r>(rows: &'r [Row], names: &[String]) -> Found<'r> {
    let tests: [fn(&str, &str) -> bool; 3] = [
        |name, word| name == word,
        |name, word| name.strip_prefix(word).is_some_and(|rest| rest.starts_with('-')),
        |name, word| word.len() >= 3 && name.contains(word),
    ];
    for word in names {
        let (namespace, word) = word.split_once('/').map_or((None, word.as_str()), |(ns, name)| (Some(ns), name));
        for test in tests {
            let fits = |r: &&Row| namespace.is_none_or(|ns| r.get("NAMESPACE") == ns) && test(r.get("NAME"), word);
            let rows: Vec<&Row> = rows.iter().filter(fits).collect();
            if !rows.is_empty() {
                return Found::Some(rows);
            }
        }
    }
    Found::None
}

/// The one row that a message names; ends the turn when there is none or more than one.
pub(super) fn one<'r>(rows: &'r [Row], names: &[String], what: &str) -> Result<&'r Row, Step> {
    match find(rows, names) {
        Found::Some(found) if found.len() == 1 => Ok(found[0]),
        Found::Some(found) => Err(Step::Say(format!(
            "That fits {} {what}s. Say which one, by its whole name:\n\n{}",
            found.len(),
            bullets(&found)
        ))),
        Found::None => Err(Step::Say(none(rows, names, what))),
    }
}

/// What to say when nothing fits.
pub(super) fn none(rows: &[Row], names: &[String], what: &str) -> String {
    let asked = names.first().map_or("that", String::as_str);
    let all: Vec<&Row> = rows.iter().collect();
    if all.is_empty() {
        return format!("I find no {what} called \"{asked}\", and no other {what} either.");
    }
    format!("I find no {what} called \"{asked}\". There are:\n\n{}", bullets(&all))
}

fn bullets(rows: &[&Row]) -> String {
    rows.iter().map(|r| format!("- {}", r.full_name())).collect::<Vec<_>>().join("\n")
}

/// The deployment in a pod's name, which ends in the hash of its ReplicaSet and five letters of its own.
pub(super) fn workload(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

/// Whether a pod's row shows it as it should be.
pub(super) fn healthy(pod: &Row) -> bool {
    let whole = pod.get("READY").split_once('/').is_some_and(|(ready, all)| ready == all);
    matches!(pod.get("STATUS"), "Completed" | "Succeeded") || (pod.get("STATUS") == "Running" && whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rules::table::parse;

    #[test]
    fn whole_names_go_before_beginnings_and_those_before_parts() {
        let rows = parse("NAMESPACE  NAME\na  cart\na  cart-db\nb  my-cart\nb  web");
        let names = |words: &[&str]| match find(&rows, &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()) {
            Found::Some(rows) => rows.iter().map(|r| r.full_name()).collect(),
            Found::None => Vec::new(),
        };
        assert_eq!(names(&["cart"]), ["a/cart"]);
        assert_eq!(names(&["b/cart"]), ["b/my-cart"]);
        assert_eq!(names(&["my"]), ["b/my-cart"]);
        assert_eq!(names(&["art"]), ["a/cart", "a/cart-db", "b/my-cart"]);
        assert_eq!(names(&["nothing", "web"]), ["b/web"]);
        assert!(names(&["nothing"]).is_empty());
        assert_eq!(workload("payments-api-bcdfg2456-xyz12"), "payments-api");
        assert_eq!(workload("bare"), "bare");
    }
}
