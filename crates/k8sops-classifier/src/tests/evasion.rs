//! No way of writing a mutating line makes it a read-only one.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{arguments, classify_line};
use crate::{
    EffectClass, ToolDescription, build_preview_call, classification::ServerReach, classify_tool_call,
    tool_calls::classify_reach_apart,
};

const MUTATING: &[&str] = &[
    "kubectl delete pod web-0",
    "kubectl -n prod delete deploy web --grace-period=0",
    "kubectl apply -f deploy.yaml",
    "kubectl apply -f deploy.yaml --dry-run=none",
    "kubectl scale deploy web --replicas=0",
    "kubectl rollout restart deploy/web",
    "kubectl exec web-0 -- ls",
    "kubectl patch deploy web --type merge -p {}",
    "kubectl create deployment web --image=nginx",
    "kubectl drain n1 --ignore-daemonsets",
    "kubectl get pods --as=admin",
    "kubectl get pods --server=https://evil.example",
    "kubectl config use-context prod",
    "helm upgrade web ./chart",
    "helm uninstall web",
    "helm rollback web 3",
    "argocd app sync web",
    "argocd app delete web",
];

const HARMLESS: &[&str] =
    &["kubectl get pods", "helm list", "true", "echo done", "kubectl get secret db -o yaml | grep x"];

/// A change of a line that leaves it as it is, or makes it another line that is not safer.
#[derive(Debug, Clone)]
enum Trick {
    Quote(usize, &'static str),
    QuoteInside(usize, &'static str),
    Space(usize, &'static str),
    Case(usize),
    Char(usize, char),
    Flag(usize, &'static str),
    Before(&'static str, &'static str),
    After(&'static str, &'static str),
    Wrap(&'static str, &'static str),
    Tail(&'static str),
}

fn trick() -> impl Strategy<Value = Trick> {
    let joint = || select(&[" | ", " && ", " || ", " ; ", "\n", " & ", ";"][..]);
    prop_oneof![
        (any::<usize>(), select(&["'", "\""][..])).prop_map(|(at, quote)| Trick::Quote(at, quote)),
        (any::<usize>(), select(&["''", "\"\"", "\\", "\\\n", "$''", "${x}"][..]))
            .prop_map(|(at, q)| Trick::QuoteInside(at, q)),
        (any::<usize>(), select(&["  ", "\t", "\u{a0}", " \\\n ", "\u{2003}", "\u{200b}", " \n", "\r"][..]))
            .prop_map(|(at, space)| Trick::Space(at, space)),
        any::<usize>().prop_map(Trick::Case),
        (any::<usize>(), any::<char>()).prop_map(|(at, char)| Trick::Char(at, char)),
        (
            any::<usize>(),
            select(
                &[
                    "-n x",
                    "--namespace=x",
                    "-o yaml",
                    "-A",
                    "--context prod",
                    "-v=6",
                    "-l get",
                    "--field-manager get",
                    "-- get",
                    "'--dry-run=server'",
                    "-- --dry-run=server",
                    "\"--dry-run\"=client",
                    "--dry-run=none",
                    "-l --dry-run=server",
                    "--dry_run=server",
                    "--kubeconfig get",
                ][..]
            )
        )
            .prop_map(|(at, flag)| Trick::Flag(at, flag)),
        (select(HARMLESS), joint()).prop_map(|(line, joint)| Trick::Before(line, joint)),
        (select(HARMLESS), joint()).prop_map(|(line, joint)| Trick::After(line, joint)),
        select(
            &[
                ("timeout 5 ", ""),
                ("time ", ""),
                ("watch ", ""),
                ("(", ")"),
                ("$(", ")"),
                ("`", "`"),
                ("bash -c '", "'"),
                ("echo x | ", "")
            ][..]
        )
        .prop_map(|(before, after)| Trick::Wrap(before, after)),
        select(&[" # --dry-run=server", " >/dev/null", " 2>&1", " | grep x", " | cat", ";", " &", "\n", " > x"][..])
            .prop_map(Trick::Tail),
    ]
}

impl Trick {
    /// Returns whether the trick adds other commands. Changes of words come first, because a separator in quotes is not a
    /// separator.
    fn composes(&self) -> bool {
        matches!(self, Self::Before(..) | Self::After(..) | Self::Wrap(..) | Self::Tail(_))
    }
}

/// Returns a boundary between two characters.
fn char_boundary(text: &str, at: usize) -> usize {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    boundaries.get(at % boundaries.len().max(1)).copied().unwrap_or_default()
}

fn apply_trick(text: &str, trick: &Trick) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let nth = |at: usize| at % words.len();
    let replaced = |at: usize, word: String| {
        let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
        words[nth(at)] = word;
        words.join(" ")
    };
    let inserted = |at: usize, what: &str| {
        let mut text = text.to_owned();
        text.insert_str(char_boundary(&text, at), what);
        text
    };
    match trick {
        Trick::Quote(at, quote) => replaced(*at, format!("{quote}{}{quote}", words[nth(*at)])),
        Trick::QuoteInside(at, what) => inserted(*at, what),
        Trick::Space(at, space) => replaced(*at, format!("{}{space}", words[nth(*at)])),
        Trick::Case(at) => {
            let (start, end) = text.split_at(char_boundary(text, *at));
            let mut end = end.chars();
            let first: String = end.next().into_iter().flat_map(char::to_uppercase).collect();
            format!("{start}{first}{}", end.as_str())
        }
        // These end the words before them, or are part of another trick.
        Trick::Char(_, '#' | ';' | '\n' | '&' | '|' | '-') => text.to_owned(),
        Trick::Char(at, char) => inserted(*at, &char.to_string()),
        Trick::Flag(at, flag) => replaced(*at, format!("{} {flag}", words[nth(*at)])),
        Trick::Before(line, joint) => format!("{line}{joint}{text}"),
        Trick::After(line, joint) => format!("{text}{joint}{line}"),
        Trick::Wrap(before, after) => format!("{before}{text}{after}"),
        Trick::Tail(tail) => format!("{text}{tail}"),
    }
}

/// Words and characters of which lines are made.
const PIECES: &[&str] = &[
    "kubectl",
    "helm",
    "argocd",
    "get",
    "delete",
    "apply",
    "-f",
    "x.yaml",
    "pods",
    "secret",
    "-n",
    "--",
    "--dry-run",
    "=",
    "server",
    "--dry-run=server",
    "|",
    "||",
    "&&",
    ";",
    "\n",
    "'",
    "\"",
    "\\",
    "$",
    "(",
    ")",
    "`",
    ">",
    "<",
    "{",
    "}",
    ",",
    "*",
    "grep",
    "jq",
    ".env",
    "sort",
    "-o",
    "jsonpath=",
    "--raw",
    "/api",
    "%",
    " ",
    " ",
    " ",
    "app",
    "sync",
    "upgrade",
    "template",
    "--help",
    "2>&1",
    "/dev/null",
    "é",
    "\u{202e}",
    "\0",
    "timeout",
    "5",
    "watch",
    "echo",
    "~",
    "#",
    "!",
    "rollout",
    "status",
];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        vec(select(PIECES), 0..12).prop_map(|pieces| Value::from(pieces.join(" "))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-zA-Z-]{0,8}", inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const TOOLS: &[&str] = &[
    "bash",
    "kubectl",
    "helm",
    "argocd",
    "kubectl_generic",
    "kubectl_apply",
    "kubectl_get",
    "kubectl_scale",
    "kubectl_delete",
    "helm_upgrade",
    "resources_get",
    "get_resources",
    "kubectl_rollout",
    "helm_template",
    "unknown",
];
const KEYS: &[&str] = &[
    "command",
    "args",
    "cmd",
    "flags",
    "name",
    "namespace",
    "resourceType",
    "subCommand",
    "dryRun",
    "dry_run",
    "filename",
    "manifest",
    "replicas",
    "chart",
    "values_files",
    "resourceRefs",
    "operation",
    "kind",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn mutating_lines_stay_mutating(text in select(MUTATING), tricks in vec(trick(), 1..5)) {
        prop_assert_eq!(classify_line(text).effect, EffectClass::Mutating);
        // A line that is mutating because of a flag may become a read-only one by a change of the flag.
        let depends_on_flag = text.contains("get pods");
        let is_fair = |trick: &&Trick| !depends_on_flag || !matches!(trick, Trick::Char(..) | Trick::Case(_) | Trick::QuoteInside(..));
        let tricks: Vec<&Trick> = tricks.iter().filter(is_fair).collect();
        let (composed, inner): (Vec<&Trick>, Vec<&Trick>) = tricks.into_iter().partition(|trick| trick.composes());
        let written = inner.into_iter().chain(composed).fold(text.to_owned(), |text, trick| apply_trick(&text, trick));
        let found = classify_line(&written);
        prop_assert!(found.effect != EffectClass::Read, "{written:?} is read: {}", found.reason);
        let words: Vec<&str> = written.split(' ').collect();
        let found = classify_tool_call(&ToolDescription::named("kubectl"), &arguments(json!({ "args": words }))).unwrap();
        prop_assert!(found.effect != EffectClass::Read, "{words:?} is read: {}", found.reason);
    }

    #[test]
    fn no_line_causes_a_panic(pieces in vec(select(PIECES), 0..40), noise in ".{0,60}") {
        for text in [pieces.concat(), pieces.join(" "), noise] {
            let call = arguments(json!({ "command": text }));
            let _ = classify_tool_call(&ToolDescription::named("bash"), &call);
            let _ = classify_tool_call(&ToolDescription::named("kubectl"), &call);
            let _ = build_preview_call(&ToolDescription::named("bash"), &call);
        }
    }

    #[test]
    fn no_arguments_cause_a_panic(
        tool in select(TOOLS),
        fields in vec((select(KEYS), json_value()), 0..6),
    ) {
        let call = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let _ = classify_tool_call(&ToolDescription::named(tool), &call);
        if let Some(preview) = build_preview_call(&ToolDescription::named(tool), &call) {
            let found = classify_reach_apart(&ToolDescription::named(&preview.tool), &preview.arguments).unwrap();
            prop_assert!(found.is_read_within(ServerReach::Manifests));
        }
    }

    #[test]
    fn previews_only_read(text in select(MUTATING), tricks in vec(trick(), 0..3)) {
        let written = tricks.iter().fold(text.to_owned(), |text, trick| apply_trick(&text, trick));
        let call = arguments(json!({ "command": written }));
        if let Some(preview) = build_preview_call(&ToolDescription::named("bash"), &call) {
            let found = classify_reach_apart(&ToolDescription::named("bash"), &preview.arguments).unwrap();
            prop_assert!(found.is_read_within(ServerReach::Manifests));
        }
    }
}

#[test]
fn long_lines_are_mutating() {
    let long = format!("kubectl get pods {}", "a ".repeat(1_000_000));
    assert_eq!(classify_line(&long).effect, EffectClass::Mutating);
    let many = format!("kubectl get pods {}", "-n x ".repeat(6_000));
    assert_eq!(classify_line(&many).effect, EffectClass::Read);
}
