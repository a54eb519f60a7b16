//! helm's verbs and flags, after the help of helm 4.1 and 3.19; and of its plugin `diff`.

use super::{
    Judged, Sensitive,
    flags::{self, Flags, Parsed, Verb, show},
    kubectl::is_remote,
    lexer::Word,
    line::{Part, is_ambiguous},
    secrets,
};

const GLOBAL: Flags = &["burst-limit= color= colour= debug kube-context= n,namespace= qps="];
const OUTPUT: &str = "o,output=";
const REVISION: &str = "revision=";
const SET: &str = "set= set-json= set-literal= set-string= f,values=";
const RENDER: &str = "create-namespace description= devel disable-openapi-validation force-conflicts force-replace \
                      force g,generate-name hide-notes hide-secret include-crds is-upgrade l,labels= name-template= \
                      no-hooks release-name render-subchart-notes replace rollback-on-failure atomic skip-crds \
                      skip-schema-validation skip-tests take-ownership timeout= version= wait? wait-for-jobs \
                      a,api-versions= kube-version= s,show-only= validate dry-run? o,output=";

/// Verbs that only read, what their output holds, and their flags. Not among these: what runs a program
/// (`--post-renderer`), writes (`--output-dir`, `--dependency-update`), reads any file (`--set-file`) or goes to an
/// address that the line names (`--repo`).
const READS: &[(&str, Option<Sensitive>, Flags)] = &[
    ("list", None, LIST),
    ("ls", None, LIST),
    ("status", None, &[OUTPUT, REVISION, "show-desc show-resources"]),
    ("get all", Some(Sensitive::Objects), &[REVISION, "template="]),
    ("get values", Some(Sensitive::Objects), &[OUTPUT, REVISION, "a,all"]),
    ("get manifest", Some(Sensitive::Objects), &[REVISION]),
    ("get hooks", Some(Sensitive::Objects), &[REVISION]),
    ("get notes", None, &[REVISION]),
    ("get metadata", None, &[OUTPUT, REVISION]),
    ("history", None, &[OUTPUT, "max="]),
    ("hist", None, &[OUTPUT, "max="]),
    ("show all", None, SHOW),
    ("show chart", None, SHOW),
    ("show crds", None, SHOW),
    ("show readme", None, SHOW),
    ("show values", None, SHOW),
    ("inspect all", None, SHOW),
    ("inspect chart", None, SHOW),
    ("inspect readme", None, SHOW),
    ("inspect values", None, SHOW),
    ("search repo", None, &[OUTPUT, "devel fail-on-no-result max-col-width= r,regexp version= l,versions"]),
    ("search hub", None, &[OUTPUT, "fail-on-no-result max-col-width= list-repo-url"]),
    ("template", Some(Sensitive::Objects), &[SET, RENDER]),
    ("lint", None, &[SET, "kube-version= quiet skip-schema-validation strict with-subcharts"]),
    ("version", None, &["short template= c,client"]),
    ("env", Some(Sensitive::Objects), &[]),
    ("repo list", None, &[OUTPUT, "no-headers"]),
    ("dependency list", None, &["max-col-width="]),
    ("dep list", None, &["max-col-width="]),
    ("plugin list", None, &["type="]),
    ("completion bash", None, &[]),
    ("completion zsh", None, &[]),
    ("diff upgrade", Some(Sensitive::Objects), DIFF),
    ("diff revision", Some(Sensitive::Objects), DIFF),
    ("diff rollback", Some(Sensitive::Objects), DIFF),
    ("diff release", Some(Sensitive::Objects), DIFF),
    ("help", None, &[]),
];
const LIST: Flags = &[
    OUTPUT,
    "A,all-namespaces a,all d,date deployed failed f,filter= m,max= no-headers offset= pending r,reverse l,selector= \
     q,short superseded time-format= uninstalled uninstalling",
];
const SHOW: Flags = &["devel jsonpath= version="];
const DIFF: Flags = &[
    SET,
    OUTPUT,
    "C,context= suppress= q,suppress-secrets show-secrets color no-color detailed-exitcode version= devel install \
     allow-unreleased reuse-values reset-values three-way-merge no-hooks include-tests normalize-manifests \
     strip-trailing-cr disable-openapi-validation disable-validation",
];

/// Verbs that try, with `--dry-run`.
const DRY_RUNS: &[(&str, Flags)] = &[
    ("install", &[SET, RENDER]),
    (
        "upgrade",
        &[SET, RENDER, "i,install cleanup-on-fail history-max= reset-then-reuse-values reset-values reuse-values"],
    ),
    (
        "rollback",
        &["cleanup-on-fail dry-run? force force-conflicts force-replace history-max= no-hooks timeout= wait? \
           wait-for-jobs"],
    ),
    (
        "uninstall",
        // `--dry-run` is a switch here.
        &["cascade= description= dry-run? ignore-not-found keep-history no-hooks timeout= wait?"],
    ),
];

const WRITES: &[(&str, &str)] = &[
    ("install", "installs a release"),
    ("upgrade", "changes a release"),
    ("uninstall", "removes a release"),
    ("delete", "removes a release"),
    ("rollback", "changes a release"),
    ("test", "runs a release's tests"),
    ("create", "writes a chart"),
    ("package", "writes a chart"),
    ("pull", "writes a chart"),
    ("fetch", "writes a chart"),
    ("push", "uploads a chart"),
    ("registry", "changes the logins"),
    ("repo", "changes the repositories"),
    ("dependency", "writes charts"),
    ("dep", "writes charts"),
    ("plugin", "changes the plugins"),
];
const GROUPS: &[&str] =
    &["get", "show", "inspect", "search", "repo", "dependency", "dep", "plugin", "registry", "completion", "diff"];

/// Judges what stands behind `helm`.
pub(super) fn judge(words: &[Word]) -> Part {
    let unclear = |reason: String| Judged::mutating(reason).with(secrets::in_words(words)).into();
    let Verb { path, rest, .. } = match verb(words) {
        Ok(Verb { path, .. }) if path.is_empty() => return Judged::read("`helm` prints its help").into(),
        Ok(verb) => verb,
        Err(reason) => return unclear(format!("helm: {reason}")),
    };
    let read = READS.iter().find(|(known, ..)| *known == path);
    let dry = DRY_RUNS.iter().find(|(known, _)| *known == path);
    let (holds, table, reads) = match (read, dry) {
        (Some((_, holds, table)), _) => (*holds, *table, true),
        (None, Some((_, table))) => (Some(Sensitive::Objects), *table, false),
        (None, None) => return unclear(format!("`helm {}` {}", show(&path), does(&path).unwrap_or("is not known"))),
    };
    let parsed = match flags::parse(rest.iter().copied(), &[GLOBAL, table]) {
        Ok(parsed) => parsed,
        Err(reason) => return unclear(format!("`helm {path}`: {reason}")),
    };
    let holds = match path.as_str() {
        "status" if parsed.values("output").any(|output| output != "table") => Some(Sensitive::Objects),
        _ => holds,
    };
    if !reads && !parsed.is_dry() {
        let what = does(&path).unwrap_or("changes a release");
        return Judged::mutating(format!("`helm {path}` {what}")).with(holds).into();
    }
    if is_ambiguous(words) {
        return unclear(format!("`helm {path}`: a flag within a word or behind `--` is not understood"));
    }
    if let Some(remote) = fetched(&path, &parsed) {
        return unclear(format!("`helm {path}`: `{}` is fetched from elsewhere", show(remote)));
    }
    let reason = match reads {
        true => format!("`helm {path}` only reads"),
        false => format!("`helm {path}` only tries, by `--dry-run`"),
    };
    Part { judged: Judged::read(reason).with(holds), dry: !reads, table: false }
}

/// Looks for the verb as helm does.
pub(super) fn verb(words: &[Word]) -> Result<Verb<'_>, String> {
    flags::verb(words, &[GLOBAL, &["h,help"]], GROUPS)
}

fn does(path: &str) -> Option<&'static str> {
    let group = path.split(' ').next().unwrap_or_default();
    WRITES.iter().find(|(known, _)| *known == group).map(|(_, what)| *what)
}

/// A chart or values file at an address that the line names.
fn fetched<'a>(path: &str, parsed: &Parsed<'a>) -> Option<&'a str> {
    let files = parsed.values("values").flat_map(|files| files.split(','));
    let charts = parsed.operands.iter().map(|word| word.text.as_str()).filter(|_| !path.starts_with("search"));
    files.chain(charts).find(|place| is_remote(place))
}
