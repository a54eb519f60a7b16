//! Whether a kubectl command's output holds secret values, and in what form.

use super::{Sensitive, flags::Parsed, lexer::Word};

/// What an output holds, and whether it is a table, which shows no values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub holds: Option<Sensitive>,
    pub table: bool,
}

/// How the result is printed, by `-o` and `--template`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Whole,
    Bare,
}

/// Looks at a known command of kubectl.
pub(super) fn of_kubectl(path: &str, parsed: &Parsed<'_>) -> Output {
    let form = form(parsed);
    let whole = |form: Form| if form == Form::Bare { Sensitive::Values } else { Sensitive::Objects };
    let names_secrets = || parsed.operands.iter().any(|word| is_secret(&word.text));
    let (holds, table) = match path {
        // They speak of secrets without showing any.
        "explain" | "auth can-i" | "events" | "top pod" | "top pods" | "top po" | "logs" | "api-resources" => {
            (None, false)
        }
        "create token" => (Some(Sensitive::Values), false),
        "config view" => (Some(whole(form)), false),
        "kustomize" | "diff" => (Some(Sensitive::Objects), false),
        "create secret" => (Some(whole(form)).filter(|_| form != Form::Table), false),
        "get" if parsed.values("raw").any(holds_secrets) => (Some(Sensitive::Objects), false),
        // YAML, when nothing else is said.
        "apply view-last-applied" => (Some(Sensitive::Objects).filter(|_| names_secrets() || from_file(parsed)), false),
        "describe" => (Some(Sensitive::Objects).filter(|_| names_secrets() || from_file(parsed)), false),
        // What a file names, or what it makes, may be Secrets.
        _ if names_secrets() || from_file(parsed) || parsed.has("from-file") || parsed.has("from-env-file") => {
            let told = path == "get" || form != Form::Table;
            (Some(whole(form)).filter(|_| told), form == Form::Table)
        }
        _ => (None, false),
    };
    Output { holds, table }
}

fn from_file(parsed: &Parsed<'_>) -> bool {
    parsed.has("filename") || parsed.has("kustomize")
}

fn form(parsed: &Parsed<'_>) -> Form {
    let outputs = parsed.values("output").map(|output| match output {
        "" | "wide" | "name" => Form::Table,
        "json" | "yaml" | "kyaml" => Form::Whole,
        _ => Form::Bare,
    });
    let templated = parsed.has("template").then_some(Form::Bare);
    outputs.chain(templated).max_by_key(|form| *form as u8).unwrap_or(Form::Table)
}

/// Whether an operand is about Secrets: `secret`, `secrets/db`, `pods,secrets`, `secrets.v1.`
pub(super) fn is_secret(operand: &str) -> bool {
    operand.split(',').any(|kind| {
        let kind = kind.split('/').next().unwrap_or_default();
        let kind = kind.split('.').next().unwrap_or_default();
        matches!(kind.to_ascii_lowercase().as_str(), "secret" | "secrets" | "secretlist")
    })
}

/// Whether a path of the API may show Secrets.
fn holds_secrets(path: &str) -> bool {
    path.to_ascii_lowercase().contains("secret") || path.contains('%')
}

/// Forms in which a value stands alone.
const BARE: &[&str] = &["jsonpath", "template", "custom-columns", "base64", "/run/secrets"];

/// What the output of a known program may hold whose line is not understood.
pub(super) fn in_words(words: &[Word]) -> Option<Sensitive> {
    let folded: Vec<String> = words.iter().map(|word| word.text.to_ascii_lowercase()).collect();
    let any = |parts: &[&str]| folded.iter().any(|word| parts.iter().any(|part| word.contains(part)));
    any(&["secret"]).then(|| if any(BARE) { Sensitive::Values } else { Sensitive::Objects })
}

/// What the output of anything may hold, by what it says: a text that is not understood may be about more.
pub(super) fn in_text(text: &str) -> Option<Sensitive> {
    let folded = text.to_ascii_lowercase();
    let any = |parts: &[&str]| parts.iter().any(|part| folded.contains(part));
    any(&["secret", "token", "base64", "config view", "password"])
        .then(|| if any(BARE) || any(&["exec", "token"]) { Sensitive::Values } else { Sensitive::Objects })
}
