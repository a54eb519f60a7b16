//! The name that was probably meant.

/// Returns the known name that differs least from `name`, if they differ in two letters at most.
pub(crate) fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if name.chars().count() > 2 { 2 } else { 1 };
    let distances = known.into_iter().map(|candidate| (strsim::osa_distance(name, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_a_typo_away() {
        assert_eq!(nearest_name("prot", ["host", "port"]), Some("port"));
        assert_eq!(nearest_name("K8SOPS_PROT", ["K8SOPS_HOST", "K8SOPS_PORT"]), Some("K8SOPS_PORT"));
        assert_eq!(nearest_name("banana", ["port"]), None);
        assert_eq!(nearest_name("ab", ["xy"]), None);
    }
}
