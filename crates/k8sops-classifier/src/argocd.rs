//! Verbs and flags of argocd, after its command reference (3.x).

use crate::{
    ambiguity::has_ambiguous_flags,
    classification::{Classification, CommandClass, EffectClass, SensitiveOutput, ServerReach},
    flag_parser::{FlagTable, ParsedVerb, find_verb, parse_arguments, printable},
    sensitive_output::sensitivity_of_words,
    server_state::command_changes_server_state,
    shell_word::ShellWord,
};

/// `--server`, `--auth-token`, `--insecure` and the like are not among these: the configuration of the MCP server decides
/// with which identity the command acts, and on which Argo CD.
const GLOBAL_FLAGS: FlagTable =
    &["argocd-context= core grpc-web http-retry-max= kube-context= logformat= loglevel= port-forward \
     port-forward-namespace= controller-name= redis-name= redis-haproxy-name= repo-server-name= server-name="];
const OUTPUT: &str = "o,output=";
const APP: &str = "N,app-namespace=";
const SOURCE: &str = "source-name= source-position= revision= revisions= source-positions=";

/// Verbs that only read, what their output may contain, and their harmless flags.
const READ_VERBS: &[(&str, Option<SensitiveOutput>, FlagTable)] = &[
    ("app list", None, &[OUTPUT, APP, "c,cluster= p,project= r,repo= l,selector="]),
    ("app get", None, &[OUTPUT, APP, SOURCE, "hard-refresh refresh show-operation show-params timeout="]),
    ("app diff", Some(SensitiveOutput::Objects), &[APP, SOURCE, "exit-code diff-exit-code= hard-refresh refresh"]),
    ("app history", None, &[OUTPUT, APP, SOURCE]),
    (
        "app logs",
        None,
        &[
            APP,
            "c,container= filter= f,follow group= kind= name= namespace= p,previous since-seconds= tail= until-time= \
                m,match-case",
        ],
    ),
    ("app manifests", Some(SensitiveOutput::Objects), &[APP, SOURCE, "source="]),
    ("app resources", None, &[OUTPUT, APP, "orphaned project="]),
    (
        "app get-resource",
        Some(SensitiveOutput::Objects),
        &[OUTPUT, APP, "filter-fields= kind= project= resource-name= show-managed-fields"],
    ),
    (
        "app wait",
        None,
        &[OUTPUT, APP, "degraded delete health hydrated operation resource= l,selector= suspended sync timeout="],
    ),
    ("app actions list", None, &[OUTPUT, APP, "group= kind= namespace= resource-name="]),
    ("appset list", None, &[OUTPUT, APP, "N,appset-namespace= p,project= l,selector="]),
    ("appset get", None, &[OUTPUT, APP, "N,appset-namespace= show-params"]),
    ("cluster list", Some(SensitiveOutput::Objects), &[OUTPUT]),
    ("cluster get", Some(SensitiveOutput::Objects), &[OUTPUT]),
    ("repo list", Some(SensitiveOutput::Objects), &[OUTPUT]),
    ("repo get", Some(SensitiveOutput::Objects), &[OUTPUT, "project="]),
    ("repocreds list", Some(SensitiveOutput::Objects), &[OUTPUT]),
    ("proj list", None, &[OUTPUT]),
    ("proj get", None, &[OUTPUT]),
    ("proj role list", None, &[OUTPUT]),
    ("proj role get", None, &[OUTPUT]),
    ("proj windows list", None, &[OUTPUT]),
    ("account list", None, &[OUTPUT]),
    ("account get", None, &[OUTPUT, "account="]),
    ("account get-user-info", None, &[OUTPUT]),
    ("account can-i", None, &[]),
    ("cert list", None, &[OUTPUT, "cert-type= hostname-pattern= sort="]),
    ("gpg list", None, &[OUTPUT]),
    ("gpg get", None, &[OUTPUT]),
    ("version", None, &[OUTPUT, "client short"]),
];

/// What the other verbs do.
const WRITE_VERBS: &[(&str, &str)] = &[
    ("app sync", "deploys an application"),
    ("app delete", "deletes an application"),
    ("app rollback", "deploys an older state"),
    ("app actions run", "runs an action on a resource"),
    ("account generate-token", "creates a credential"),
    ("account session-token", "shows a credential"),
    ("admin", "administers Argo CD"),
    ("login", "changes the logins"),
    ("logout", "changes the logins"),
];
const VERB_GROUPS: &[&str] = &[
    "app",
    "appset",
    "cluster",
    "repo",
    "repocreds",
    "proj",
    "proj role",
    "proj windows",
    "account",
    "cert",
    "gpg",
    "app actions",
    "admin",
];

/// Classifies the words behind `argocd`.
pub(crate) fn classify_argocd(words: &[ShellWord]) -> CommandClass {
    let mut class = classify_verb(words);
    if command_changes_server_state("argocd", words) {
        let reason = || "it chooses another Argo CD or identity".to_owned();
        class.classification = class.classification.with_reach(ServerReach::ServerState, reason);
    }
    class
}

fn classify_verb(words: &[ShellWord]) -> CommandClass {
    let unclear = |reason: String| -> CommandClass {
        Classification::mutating(reason).with_sensitive_output(sensitivity_of_words(words)).into()
    };
    let ParsedVerb { path, other_words, .. } = match find_verb(words, &[GLOBAL_FLAGS, &["h,help"]], VERB_GROUPS) {
        Ok(ParsedVerb { path, .. }) if path.is_empty() => {
            return Classification::read("`argocd` prints its help").into();
        }
        Ok(verb) => verb,
        Err(reason) => return unclear(format!("argocd: {reason}")),
    };
    let Some((_, sensitive, flags)) = READ_VERBS.iter().find(|(verb, ..)| *verb == path) else {
        let what = WRITE_VERBS.iter().find(|(verb, _)| path == *verb || path.starts_with(&format!("{verb} ")));
        let what = what.map_or("is not known to only read", |(_, what)| *what);
        let token = path.ends_with("-token").then_some(SensitiveOutput::Values);
        let admin = path.starts_with("admin").then_some(SensitiveOutput::Objects);
        return Classification::mutating(format!("`argocd {}` {what}", printable(&path)))
            .with_sensitive_output(token.max(admin).max(sensitivity_of_words(words)))
            .into();
    };
    let parsed = match parse_arguments(other_words.into_iter(), &[flags, GLOBAL_FLAGS]) {
        Ok(parsed) => parsed,
        Err(reason) => return unclear(format!("`argocd {path}`: {reason}")),
    };
    let is_free = |flag: &str| matches!(flag, "project" | "selector" | "app-namespace" | "tail" | "container" | "name");
    if parsed.has_unknown && !parsed.unknown_flags().all(is_free) {
        return unclear(format!("`argocd {path}`: a word that is only known when the line runs is not supported here"));
    }
    if has_ambiguous_flags(words) {
        return unclear(format!("`argocd {path}`: a flag inside of a word or behind `--` is not supported"));
    }
    if parsed.has_flag("refresh") || parsed.has_flag("hard-refresh") {
        let reason = format!("`argocd {path}` refreshes the application's state");
        return Classification::new(EffectClass::Idempotent, reason).with_sensitive_output(*sensitive).into();
    }
    Classification::read(format!("`argocd {path}` only reads")).with_sensitive_output(*sensitive).into()
}
