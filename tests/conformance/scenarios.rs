//! Expected results of scenarios.

/// Supported protocol eras. Scenarios that exist only in older ones are not run.
pub(crate) const ERAS: [&str; 2] = ["2025-11-25", "2026-07-28"];

const OAUTH: &str = "no OAuth flows; operators configure headers, or users bring their token";

/// Scenarios that do not apply: prefix of the name, and the reason.
pub(crate) const NOT_OURS: [(&str, &str); 2] =
    [("auth/", OAUTH), ("sep-2640-", "the Skills extension: k8sops uses tools and nothing else of a server")];

/// The minimum number of successful checks of a scenario.
pub(crate) fn least_checks(scenario: &str) -> usize {
    match scenario {
        "tools_call" => 2,
        "sse-retry" | "http-standard-headers" => 3,
        "elicitation-sep1034-client-defaults" | "sep-2322-client-request-state" => 5,
        "request-metadata" => 6,
        "json-schema-2020-12-preservation" => 9,
        "http-invalid-tool-headers" => 12,
        "http-custom-headers" => 18,
        _ => 1,
    }
}
