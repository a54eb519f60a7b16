//! The call that shows what another would do, without doing it.

use serde_json::{Map, Value, json};

use super::{
    Preview,
    carriers::{self, Carried},
    flags, helm, judge, kubectl,
    lexer::{self, Word},
    line::Program,
};
use k8sops_core::ToolEffect;

/// The call that shows what this one would do.
pub(super) fn of(tool: &str, arguments: &Map<String, Value>) -> Option<Preview> {
    if judge(tool, arguments)?.effect == ToolEffect::Read {
        return None;
    }
    let preview = match carriers::home(tool) {
        Some(home) => of_line(tool, arguments, home)?,
        None => of_tool(tool, arguments)?,
    };
    judge(&preview.tool, &preview.arguments).filter(|judged| judged.effect == ToolEffect::Read)?;
    Some(preview)
}

/// Of a tool with typed arguments.
fn of_tool(tool: &str, arguments: &Map<String, Value>) -> Option<Preview> {
    let with = |key: &str, value: Value| {
        let mut arguments = arguments.clone();
        arguments.insert(key.into(), value);
        Some(Preview { tool: tool.into(), arguments })
    };
    match tool {
        "kubectl_apply" | "kubectl_create" | "kubectl_patch" | "node_management" => with("dryRun", json!(true)),
        "helm_install" | "helm_upgrade" => with("dry_run", json!("server")),
        "helm_rollback" | "helm_uninstall" => with("dry_run", json!(true)),
        "kubectl_generic" => {
            let mut flags = match arguments.get("flags") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(flags)) => flags.clone(),
                Some(_) => return None,
            };
            flags.insert("dry-run".into(), json!("server"));
            with("flags", Value::Object(flags))
        }
        "kubectl_scale" => generic(arguments, "scale", &[("replicas", "replicas")]),
        "kubectl_delete" => generic(
            arguments,
            "delete",
            &[("labelSelector", "selector"), ("force", "force"), ("gracePeriodSeconds", "grace-period")],
        ),
        _ => None,
    }
}

/// Tools of `mcp-server-kubernetes` that know no dry run, said with the one that knows all of kubectl.
fn generic(arguments: &Map<String, Value>, verb: &str, as_flags: &[(&str, &str)]) -> Option<Preview> {
    let mut flags = Map::new();
    let mut said = Map::new();
    said.insert("command".into(), json!(verb));
    for (key, value) in arguments {
        match key.as_str() {
            "resourceType" | "name" | "namespace" | "allNamespaces" | "context" => {
                said.insert(key.clone(), value.clone());
            }
            _ => {
                let (_, flag) = as_flags.iter().find(|(known, _)| known == key)?;
                flags.insert((*flag).into(), value.clone());
            }
        }
    }
    if verb == "scale" {
        said.entry("resourceType").or_insert_with(|| json!("deployment"));
    }
    said.entry("namespace").or_insert_with(|| json!("default"));
    flags.insert("dry-run".into(), json!("server"));
    said.insert("flags".into(), Value::Object(flags));
    Some(Preview { tool: "kubectl_generic".into(), arguments: said })
}

/// Of a tool that carries a command line, in the same shape. Only of a line that is one command.
fn of_line(tool: &str, arguments: &Map<String, Value>, home: Option<Program>) -> Option<Preview> {
    let mut said = arguments.clone();
    match carriers::carried(arguments)? {
        Carried::Line(key, line) => {
            let [pipeline] = lexer::lex(line).ok()?.pipelines.try_into().ok()?;
            let [mut words] = pipeline.try_into().ok()?;
            try_out(&mut words, home, Output::Diff)?;
            let words: Option<Vec<String>> = words.iter().map(|word| quote(&word.text)).collect();
            said.insert(key.into(), json!(words?.join(" ")));
        }
        Carried::Words(key, first, rest) => {
            let mut words: Vec<Word> = first.into_iter().chain(rest).map(Word::plain).collect();
            try_out(&mut words, home, Output::DryRun)?;
            let words = words.iter().map(|word| word.text.as_str()).skip(usize::from(first.is_some()));
            said.insert(key.into(), words.collect());
        }
    }
    Some(Preview { tool: tool.into(), arguments: said })
}

/// What may be shown. A diff ends with status 1 when there is a difference, which only a shell's tool takes for a
/// result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Diff,
    DryRun,
}

/// Turns a command into one that only tries.
fn try_out(words: &mut Vec<Word>, home: Option<Program>, output: Output) -> Option<()> {
    let named = Program::named(&words.first()?.text);
    let program = named.or(home)?;
    let start = usize::from(named.is_some());
    let arguments = words.get(start..)?;
    match program {
        Program::Kubectl => {
            let verb = kubectl::verb(arguments).ok()?;
            let end = start + verb.end;
            if output == Output::Diff && verb.path == "apply" && is_diff(&verb.rest) {
                words.get_mut(end.checked_sub(1)?)?.text = "diff".into();
                return Some(());
            }
            let shows = matches!(verb.path.split(' ').next(), Some("patch" | "set")) && !names_output(&verb.rest);
            let more: &[&str] = if shows { &["--dry-run=server", "-o", "yaml"] } else { &["--dry-run=server"] };
            words.splice(end..end, more.iter().map(|word| Word::plain(word)));
        }
        Program::Helm => {
            let verb = helm::verb(arguments).ok()?;
            let flag = match verb.path.as_str() {
                "install" | "upgrade" => "--dry-run=server",
                "rollback" | "uninstall" => "--dry-run",
                _ => return None,
            };
            let end = start + verb.end;
            words.splice(end..end, [Word::plain(flag)]);
        }
        Program::Argocd => return None,
    }
    Some(())
}

/// Whether `kubectl diff` knows all that the `apply` says.
fn is_diff(rest: &[&Word]) -> bool {
    let shared: flags::Flags = &[kubectl::FILES, "field-manager= force-conflicts l,selector= server-side"];
    flags::parse(rest.iter().copied(), &[kubectl::GLOBAL, shared]).is_ok_and(|parsed| parsed.operands.is_empty())
}

fn names_output(rest: &[&Word]) -> bool {
    rest.iter().any(|word| word.text.starts_with("-o") || word.text.starts_with("--output"))
}

/// The word for a shell. `None`: it has a quote of its own.
fn quote(word: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.,/:@%+".contains(&byte);
    match word {
        _ if !word.is_empty() && word.bytes().all(is_plain) => Some(word.to_owned()),
        _ if !word.contains('\'') => Some(format!("'{word}'")),
        _ => None,
    }
}
