//! The name that was probably meant.

/// Returns the known name of which `name` is probably a misspelling, among names that may well be others' own: they differ in
/// one letter, or in two if they are long. Upper and lower case do not differ.
pub(crate) fn misspelled_name<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let length = name.chars().count();
    let limit = match length {
        0..8 => 0,
        8..12 => 1,
        _ => 2,
    };
    let upper = name.to_uppercase();
    nearest_name(&upper, known).filter(|found| strsim::osa_distance(&upper, found) <= limit)
}

/// Returns the known name that differs least from `name`, if they differ in two letters at most.
pub(crate) fn nearest_name<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = if name.chars().count() > 2 { 2 } else { 1 };
    let distances = known.iter().map(|candidate| (strsim::osa_distance(name, candidate), *candidate));
    distances.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_a_typo_away() {
        assert_eq!(nearest_name("prot", &["host", "port"]), Some("port"));
        assert_eq!(nearest_name("K8SOPS_PROT", &["K8SOPS_HOST", "K8SOPS_PORT"]), Some("K8SOPS_PORT"));
        assert_eq!(nearest_name("banana", &["port"]), None);
        assert_eq!(nearest_name("ab", &["xy"]), None);
    }

    #[test]
    fn misspelled_name_is_hardly_another_one() {
        let known = ["LLM_PROVIDER", "LLM_MODEL", "REDIS_URL", "MCP_SERVER_URL", "LOG_LEVEL"];
        for (name, meant) in [
            ("LLM_PROVDER", Some("LLM_PROVIDER")),
            ("LLM_PROVIDRE", Some("LLM_PROVIDER")),
            ("LLM_MDOEL", Some("LLM_MODEL")),
            ("llm_model", Some("LLM_MODEL")),
            ("REDIS_URI", Some("REDIS_URL")),
            ("MCP_SEVER_URLS", Some("MCP_SERVER_URL")),
            ("REDIS_PORT", None),
            ("LOG_DEVELS", None),
            ("REDIS", None),
            ("PATH", None),
            ("HOME", None),
        ] {
            assert_eq!(misspelled_name(name, &known), meant, "{name}");
        }
    }
}
