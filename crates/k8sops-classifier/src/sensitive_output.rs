//! Whether an output contains secret values, and in which form.

use crate::{
    classification::SensitiveOutput,
    flag_parser::ParsedArguments,
    name_template::output_prints_only_names,
    shell_word::{ShellWord, TextKind, UNKNOWN_TEXT},
};

/// What the output of a kubectl command may contain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KubectlOutput {
    pub(crate) sensitive: Option<SensitiveOutput>,
    /// The output is a table, which shows no values.
    pub(crate) is_table: bool,
}

/// How a result is printed, by `-o` and `--template`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputFormat {
    /// Names and a few columns.
    Table,
    /// Whole objects as YAML or JSON.
    Whole,
    /// Selected values without their names.
    Bare,
}

/// Returns what the output of a known kubectl verb may contain.
pub(crate) fn kubectl_output(verb: &str, parsed: &ParsedArguments<'_>) -> KubectlOutput {
    let format = output_format(parsed);
    let printed = |format: OutputFormat| match format {
        OutputFormat::Bare => SensitiveOutput::Values,
        OutputFormat::Table | OutputFormat::Whole => SensitiveOutput::Objects,
    };
    let names_secrets =
        || parsed.operands.iter().any(|word| names_secret_resource(&word.text)) || may_name_secrets(parsed);
    let (sensitive, is_table) = match verb {
        // These name secrets without showing them.
        "explain" | "auth can-i" | "events" | "top pod" | "top pods" | "top po" | "logs" | "api-resources" => {
            (None, false)
        }
        "create token" => (Some(SensitiveOutput::Values), false),
        "config view" => (Some(printed(format)), false),
        "kustomize" | "diff" => (Some(SensitiveOutput::Objects), false),
        "create secret" => (Some(printed(format)).filter(|_| format != OutputFormat::Table), false),
        "get" if parsed.flag_values("raw").any(may_return_secrets) => (Some(SensitiveOutput::Objects), false),
        // The default output of both is the whole object.
        "apply view-last-applied" | "describe" => {
            (Some(SensitiveOutput::Objects).filter(|_| names_secrets() || reads_manifests(parsed)), false)
        }
        // A manifest may name Secrets, and files and environment files become their values.
        _ if names_secrets()
            || reads_manifests(parsed)
            || parsed.has_flag("from-file")
            || parsed.has_flag("from-env-file") =>
        {
            let is_printed = verb == "get" || format != OutputFormat::Table;
            (Some(printed(format)).filter(|_| is_printed), format == OutputFormat::Table)
        }
        _ => (None, false),
    };
    KubectlOutput { sensitive, is_table }
}

/// Returns whether a word that is only known when the line runs may name Secrets.
fn may_name_secrets(parsed: &ParsedArguments<'_>) -> bool {
    // Behind a kind there are only names.
    let has_kind = parsed.operands.first().is_some_and(|first| first.is_known() && !first.text.contains('/'));
    !has_kind
        && parsed.operands.iter().any(|word| {
            let kind = word.text.split('/').next().unwrap_or_default();
            kind.contains(UNKNOWN_TEXT) && word.unknown.is_none_or(|unknown| unknown.kind != TextKind::ObjectName)
        })
}

fn reads_manifests(parsed: &ParsedArguments<'_>) -> bool {
    parsed.has_flag("filename") || parsed.has_flag("kustomize")
}

fn output_format(parsed: &ParsedArguments<'_>) -> OutputFormat {
    let outputs = parsed.flag_values("output").map(|output| match output {
        "" | "wide" | "name" => OutputFormat::Table,
        "json" | "yaml" | "kyaml" => OutputFormat::Whole,
        output if output_prints_only_names(output) => OutputFormat::Table,
        _ => OutputFormat::Bare,
    });
    let templated = parsed.has_flag("template").then_some(OutputFormat::Bare);
    outputs.chain(templated).max_by_key(|format| *format as u8).unwrap_or(OutputFormat::Table)
}

/// Returns whether an operand names Secrets: `secret`, `secrets/db`, `pods,secrets`, `secrets.v1.`.
pub(crate) fn names_secret_resource(operand: &str) -> bool {
    operand.split(',').any(|resource| {
        let resource = resource.split('/').next().unwrap_or_default();
        let resource = resource.split('.').next().unwrap_or_default();
        matches!(resource.to_ascii_lowercase().as_str(), "secret" | "secrets" | "secretlist")
    })
}

/// Returns whether a path of the API may return Secrets. `%` may encode any name.
fn may_return_secrets(path: &str) -> bool {
    path.to_ascii_lowercase().contains("secret") || path.contains('%')
}

/// Words that make an output of bare values likely.
const BARE_VALUE_WORDS: &[&str] = &["jsonpath", "template", "custom-columns", "base64", "/run/secrets"];
/// Commands of secret stores and clouds that print a value and nothing else.
const BARE_VALUE_COMMANDS: &[&str] = &[
    " -field",
    "--query secretstring",
    "--query parameter.value",
    "versions access",
    "tsv",
    "get-login-password",
    "op read",
    "pass show",
    "secrets get",
    "initialadminpassword",
    "printenv ",
];

/// Returns what the output of a known program may contain when its arguments are not fully analyzed.
pub(crate) fn sensitivity_of_words(words: &[ShellWord]) -> Option<SensitiveOutput> {
    let lower: Vec<String> = words.iter().map(|word| word.text.to_ascii_lowercase()).collect();
    let mentions = |parts: &[&str]| lower.iter().any(|word| parts.iter().any(|part| word.contains(part)));
    mentions(&["secret"]).then(|| match mentions(BARE_VALUE_WORDS) {
        true => SensitiveOutput::Values,
        false => SensitiveOutput::Objects,
    })
}

/// Returns what the output of anything may contain, by the words in its text. More words count than for a known program,
/// because a text that is not analyzed may do more.
pub(crate) fn sensitivity_of_text(text: &str) -> Option<SensitiveOutput> {
    let lower = text.to_ascii_lowercase();
    let mentions = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let about_secrets = &[
        "secret",
        "token",
        "base64",
        "config view",
        "password",
        "op read",
        "op://",
        "pass show",
        "get-parameter",
        "vault",
    ];
    mentions(about_secrets).then(|| {
        match mentions(BARE_VALUE_WORDS) || mentions(BARE_VALUE_COMMANDS) || mentions(&["exec", "token"]) {
            true => SensitiveOutput::Values,
            false => SensitiveOutput::Objects,
        }
    })
}
