//! argocd's verbs and flags, after its command reference (3.x).

use super::{
    Judged, Sensitive,
    flags::{self, Flags, Verb, show},
    lexer::Word,
    line::{Part, is_ambiguous},
    secrets,
};
use k8sops_core::ToolEffect;

/// `--server`, `--auth-token`, `--insecure` and their like are not here: who asks, and whom, is the server's affair.
const GLOBAL: Flags =
    &["argocd-context= core grpc-web http-retry-max= kube-context= logformat= loglevel= port-forward \
     port-forward-namespace= controller-name= redis-name= redis-haproxy-name= repo-server-name= server-name="];
const OUTPUT: &str = "o,output=";
const APP: &str = "N,app-namespace=";
const SOURCE: &str = "source-name= source-position= revision= revisions= source-positions=";

/// Verbs that only read, and what their output holds.
const READS: &[(&str, Option<Sensitive>, Flags)] = &[
    ("app list", None, &[OUTPUT, APP, "c,cluster= p,project= r,repo= l,selector="]),
    ("app get", None, &[OUTPUT, APP, SOURCE, "hard-refresh refresh show-operation show-params timeout="]),
    ("app diff", Some(Sensitive::Objects), &[APP, SOURCE, "exit-code diff-exit-code= hard-refresh refresh"]),
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
    ("app manifests", Some(Sensitive::Objects), &[APP, SOURCE, "source="]),
    ("app resources", None, &[OUTPUT, APP, "orphaned project="]),
    (
        "app get-resource",
        Some(Sensitive::Objects),
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
    ("cluster list", Some(Sensitive::Objects), &[OUTPUT]),
    ("cluster get", Some(Sensitive::Objects), &[OUTPUT]),
    ("repo list", Some(Sensitive::Objects), &[OUTPUT]),
    ("repo get", Some(Sensitive::Objects), &[OUTPUT, "project="]),
    ("repocreds list", Some(Sensitive::Objects), &[OUTPUT]),
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

/// What others do, in words.
const WRITES: &[(&str, &str)] = &[
    ("app sync", "deploys an application"),
    ("app delete", "deletes an application"),
    ("app rollback", "deploys an older state"),
    ("app actions run", "runs an action on a resource"),
    ("account generate-token", "makes a credential"),
    ("account session-token", "shows a credential"),
    ("admin", "acts on Argo CD itself"),
    ("login", "changes the logins"),
    ("logout", "changes the logins"),
];
const GROUPS: &[&str] = &[
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

/// Judges what stands behind `argocd`.
pub(super) fn judge(words: &[Word]) -> Part {
    let unclear = |reason: String| Judged::mutating(reason).with(secrets::in_words(words)).into();
    let Verb { path, rest, .. } = match flags::verb(words, &[GLOBAL, &["h,help"]], GROUPS) {
        Ok(Verb { path, .. }) if path.is_empty() => return Judged::read("`argocd` prints its help").into(),
        Ok(verb) => verb,
        Err(reason) => return unclear(format!("argocd: {reason}")),
    };
    let Some((_, holds, table)) = READS.iter().find(|(known, ..)| *known == path) else {
        let what = WRITES.iter().find(|(known, _)| path == *known || path.starts_with(&format!("{known} ")));
        let what = what.map_or("is not known to only read", |(_, what)| *what);
        let token = path.ends_with("-token").then_some(Sensitive::Values);
        let password = path.starts_with("admin").then_some(Sensitive::Objects);
        let judged = Judged::mutating(format!("`argocd {}` {what}", show(&path)));
        return judged.with(token.max(password).max(secrets::in_words(words))).into();
    };
    let parsed = match flags::parse(rest.into_iter(), &[table, GLOBAL]) {
        Ok(parsed) => parsed,
        Err(reason) => return unclear(format!("`argocd {path}`: {reason}")),
    };
    if is_ambiguous(words) {
        return unclear(format!("`argocd {path}`: a flag within a word or behind `--` is not understood"));
    }
    if parsed.has("refresh") || parsed.has("hard-refresh") {
        return Judged::new(ToolEffect::Idempotent, format!("`argocd {path}` with a refresh compares anew"))
            .with(*holds)
            .into();
    }
    Judged::read(format!("`argocd {path}` only reads")).with(*holds).into()
}
