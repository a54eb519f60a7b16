//! kubectl's verbs and flags, after the help of kubectl 1.37.

use super::{
    Judged,
    flags::{self, Flags, Parsed, Verb, show},
    lexer::Word,
    line::{Part, is_ambiguous},
    secrets,
};

/// Flags of every verb that choose where to look, and nothing else.
pub(super) const GLOBAL: Flags = &[
    "n,namespace= context= request-timeout= v= vmodule= match-server-version disable-compression warnings-as-errors \
     log-flush-frequency=",
];
const PRINT: &str = "o,output= template= show-managed-fields allow-missing-template-keys no-headers";
pub(super) const FILES: &str = "f,filename= k,kustomize= R,recursive";
const SELECT: &str = "l,selector= A,all-namespaces field-selector= chunk-size=";

/// Verbs that only read, whatever their flags, as long as these are in the table.
const READS: &[(&str, Flags)] = &[
    (
        "get",
        &[
            PRINT,
            FILES,
            SELECT,
            "ignore-not-found L,label-columns= output-watch-events raw= server-print show-kind show-labels sort-by= \
             subresource= w,watch watch-only",
        ],
    ),
    ("describe", &[FILES, SELECT, "show-events"]),
    (
        "logs",
        &["all-containers all-pods c,container= f,follow ignore-errors limit-bytes= max-log-requests= \
           pod-running-timeout= prefix p,previous l,selector= since= since-time= tail= timestamps"],
    ),
    ("events", &[PRINT, "A,all-namespaces chunk-size= for= types= w,watch"]),
    ("top", &[]),
    ("top pod", TOP),
    ("top pods", TOP),
    ("top po", TOP),
    ("top node", TOP),
    ("top nodes", TOP),
    ("top no", TOP),
    ("explain", &["api-version= max-depth= o,output= recursive R"]),
    ("api-resources", &[PRINT, "api-group= cached categories= namespaced sort-by= verbs="]),
    ("api-versions", &[]),
    ("version", &["client o,output= short"]),
    ("cluster-info", &[]),
    ("cluster-info dump", &[PRINT, "A,all-namespaces namespaces= pod-running-timeout="]),
    ("auth can-i", &["A,all-namespaces list no-headers q,quiet subresource="]),
    ("auth whoami", &[PRINT]),
    (
        "diff",
        &[
            FILES,
            "concurrency= field-manager= force-conflicts prune prune-allowlist= l,selector= server-side \
                  show-managed-fields show-secrets",
        ],
    ),
    ("wait", &[PRINT, SELECT, "f,filename= R,recursive all for= local timeout="]),
    ("rollout status", &[FILES, "revision= l,selector= timeout= w,watch"]),
    ("rollout history", &[PRINT, FILES, "revision= l,selector="]),
    ("config view", &[PRINT, "flatten merge minify raw"]),
    ("config get-contexts", &["no-headers o,output="]),
    ("config current-context", &[]),
    ("config get-clusters", &[]),
    ("config get-users", &[]),
    ("kuberc view", &[PRINT]),
    ("kustomize", &[]),
    ("plugin list", &["name-only"]),
    ("apply view-last-applied", &[FILES, "all o,output= l,selector="]),
    ("completion", &[]),
    ("options", &[]),
    ("help", &[]),
];
const TOP: Flags = &[SELECT, "containers no-headers show-swap show-capacity sort-by= sum use-protocol-buffers"];

/// Verbs that change something unless every `--dry-run` says not to. Flags that start an editor or attach, and `--raw`,
/// which knows of no dry run, are not among theirs.
const DRY_RUNS: &[(&str, Flags)] = &[
    (
        "apply",
        &[
            PRINT,
            FILES,
            DRY,
            "all cascade? force force-conflicts grace-period= openapi-patch overwrite prune \
                              prune-allowlist= l,selector= server-side subresource= timeout= validate? wait",
        ],
    ),
    ("create", &[PRINT, FILES, DRY, "save-config l,selector= validate?"]),
    ("create clusterrole", &[PRINT, DRY, CREATE, RULES]),
    ("create clusterrolebinding", &[PRINT, DRY, CREATE, BINDINGS]),
    ("create configmap", &[PRINT, DRY, CREATE, LITERALS]),
    ("create cm", &[PRINT, DRY, CREATE, LITERALS]),
    ("create cronjob", &[PRINT, DRY, CREATE, "image= restart= schedule="]),
    ("create cj", &[PRINT, DRY, CREATE, "image= restart= schedule="]),
    ("create deployment", &[PRINT, DRY, CREATE, "image= port= r,replicas="]),
    ("create deploy", &[PRINT, DRY, CREATE, "image= port= r,replicas="]),
    ("create ingress", &[PRINT, DRY, CREATE, "annotation= class= default-backend= rule="]),
    ("create job", &[PRINT, DRY, CREATE, "from= image="]),
    ("create namespace", &[PRINT, DRY, CREATE]),
    ("create ns", &[PRINT, DRY, CREATE]),
    ("create poddisruptionbudget", &[PRINT, DRY, CREATE, "max-unavailable= min-available= selector="]),
    ("create priorityclass", &[PRINT, DRY, CREATE, "description= global-default preemption-policy= value="]),
    ("create quota", &[PRINT, DRY, CREATE, "hard= scopes="]),
    ("create role", &[PRINT, DRY, CREATE, RULES]),
    ("create rolebinding", &[PRINT, DRY, CREATE, BINDINGS]),
    ("create secret", &[PRINT, DRY, CREATE, LITERALS, "type= cert= key= docker-email="]),
    ("create service", &[PRINT, DRY, CREATE, "tcp= clusterip= external-name= node-port="]),
    ("create serviceaccount", &[PRINT, DRY, CREATE]),
    ("create sa", &[PRINT, DRY, CREATE]),
    ("delete", &[FILES, SELECT, DRY, "all cascade? force grace-period= ignore-not-found now o,output= timeout= wait"]),
    ("patch", &[PRINT, FILES, DRY, "local p,patch= patch-file= subresource= type="]),
    ("replace", &[PRINT, FILES, DRY, "cascade? grace-period= save-config subresource= timeout= validate? wait"]),
    ("scale", &[PRINT, FILES, DRY, "all current-replicas= replicas= resource-version= l,selector= timeout="]),
    ("autoscale", &[PRINT, FILES, DRY, "cpu= cpu-percent= memory= max= min= name= save-config"]),
    ("label", &[PRINT, FILES, SELECT, DRY, "all list local overwrite resource-version="]),
    ("annotate", &[PRINT, FILES, SELECT, DRY, "all list local overwrite resource-version="]),
    ("taint", &[PRINT, DRY, "all overwrite l,selector= validate?"]),
    ("cordon", &[DRY, "l,selector="]),
    ("uncordon", &[DRY, "l,selector="]),
    (
        "drain",
        &[
            DRY,
            "chunk-size= delete-emptydir-data disable-eviction force grace-period= ignore-daemonsets pod-selector= \
                l,selector= skip-wait-for-delete-timeout= timeout=",
        ],
    ),
    (
        "expose",
        &[
            PRINT,
            FILES,
            DRY,
            "cluster-ip= external-ip= l,labels= load-balancer-ip= name= override-type= overrides= \
                              port= protocol= save-config selector= session-affinity= target-port= type=",
        ],
    ),
    (
        "run",
        &[
            PRINT,
            DRY,
            "annotations= command env= image= image-pull-policy= l,labels= override-type= overrides= port= \
                       privileged restart= save-config",
        ],
    ),
    ("set image", &[PRINT, FILES, DRY, "all local l,selector="]),
    ("set resources", &[PRINT, FILES, DRY, "all local l,selector= c,containers= limits= requests="]),
    ("set env", &[PRINT, FILES, DRY, "all local l,selector= c,containers= e,env= from= keys= overwrite prefix="]),
    ("set selector", &[PRINT, FILES, DRY, "all local resource-version="]),
    ("set serviceaccount", &[PRINT, FILES, DRY, "all local"]),
    ("set sa", &[PRINT, FILES, DRY, "all local"]),
    ("set subject", &[PRINT, FILES, DRY, "all local l,selector= group= serviceaccount= user="]),
    ("rollout undo", &[PRINT, FILES, DRY, "l,selector= to-revision="]),
    ("auth reconcile", &[PRINT, FILES, DRY, "remove-extra-permissions remove-extra-subjects"]),
];
const DRY: &str = "dry-run? field-manager=";
const CREATE: &str = "save-config validate?";
const RULES: &str = "aggregation-rule= non-resource-url= resource= resource-name= verb=";
const BINDINGS: &str = "clusterrole= role= group= serviceaccount=";
const LITERALS: &str = "append-hash from-env-file= from-file= from-literal=";

/// What the others do, in words. A verb that is in no table is not known.
const WRITES: &[(&str, &str)] = &[
    ("alpha", "is not known"),
    ("attach", "talks to a running container"),
    ("certificate", "decides on a certificate"),
    ("config", "changes the kubeconfig"),
    ("cp", "copies files into or out of a container"),
    ("create token", "makes a credential"),
    ("debug", "starts a debugging container"),
    ("edit", "changes objects in an editor"),
    ("exec", "runs a program in a container"),
    ("kuberc", "changes kubectl's settings"),
    ("port-forward", "opens a port to a pod"),
    ("proxy", "opens the API server to others"),
    ("rollout restart", "restarts pods"),
    ("run", "starts a pod"),
    ("drain", "evicts the pods of a node"),
    ("delete", "deletes objects"),
];

/// Verbs with verbs of their own.
const GROUPS: &[&str] = &[
    "alpha",
    "apply",
    "auth",
    "certificate",
    "cluster-info",
    "config",
    "create",
    "kuberc",
    "plugin",
    "rollout",
    "set",
    "top",
];

/// Paths below a node that the kubelet only reads from.
const KUBELET_READS: &[&str] = &[
    "metrics",
    "metrics/cadvisor",
    "metrics/resource",
    "metrics/probes",
    "stats/summary",
    "healthz",
    "configz",
    "pods",
];

/// Judges what stands behind `kubectl`.
pub(super) fn judge(words: &[Word]) -> Part {
    let unclear = |reason: String| Judged::mutating(reason).with(secrets::in_words(words)).into();
    let Verb { path, rest, .. } = match verb(words) {
        Ok(Verb { path, .. }) if path.is_empty() => return Judged::read("`kubectl` prints its help").into(),
        Ok(verb) => verb,
        Err(reason) => return unclear(format!("kubectl: {reason}")),
    };
    let table = |tables: &[(&str, Flags)]| tables.iter().find(|(known, _)| *known == path).map(|(_, flags)| *flags);
    if asks_for_help(words) && (table(READS).or(table(DRY_RUNS)).is_some() || does(&path).is_some()) {
        return Judged::read(format!("`kubectl {path} --help` prints its help")).into();
    }
    let (flags, reads) = match (table(READS), table(DRY_RUNS)) {
        (Some(flags), _) => (flags, true),
        (None, Some(flags)) => (flags, false),
        (None, None) => {
            let what = does(&path).unwrap_or("is not known");
            let part = unclear(format!("`kubectl {}` {what}", show(&path)));
            return with_token(&path, part);
        }
    };
    let parsed = match flags::parse(rest.iter().copied(), &[GLOBAL, flags]) {
        Ok(parsed) => parsed,
        Err(reason) => return unclear(format!("`kubectl {path}`: {reason}")),
    };
    let output = secrets::of_kubectl(&path, &parsed);
    if !reads && !parsed.is_dry() {
        let what = does(&path).unwrap_or("changes the cluster");
        return Judged::mutating(format!("`kubectl {path}` {what}")).with(output.holds).into();
    }
    if let Err(reason) = check(&path, &parsed, words) {
        return Judged::mutating(format!("`kubectl {path}`: {reason}")).with(output.holds).into();
    }
    let reason = match reads {
        true => format!("`kubectl {path}` only reads"),
        false => format!("`kubectl {path}` only tries, by `--dry-run`"),
    };
    Part { judged: Judged::read(reason).with(output.holds), dry: !reads, table: output.table }
}

/// Looks for the verb as kubectl does.
pub(super) fn verb(words: &[Word]) -> Result<Verb<'_>, String> {
    flags::verb(words, &[GLOBAL, &["h,help"]], GROUPS)
}

/// `kubectl delete --help` prints; but a program in a container gets its own `--help`.
fn asks_for_help(words: &[Word]) -> bool {
    let Some((last, before)) = words.split_last() else { return false };
    let bare = |word: &Word| word.plain && word.text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    matches!(last.text.as_str(), "--help" | "-h")
        && last.plain
        && before.len() < 3
        && before.iter().all(|word| bare(word) && !word.text.starts_with('-'))
}

fn does(path: &str) -> Option<&'static str> {
    let group = path.split(' ').next().unwrap_or_default();
    let known = |name: &str| WRITES.iter().find(|(known, _)| *known == name).map(|(_, what)| *what);
    known(path).or_else(|| known(group))
}

fn with_token(path: &str, part: Part) -> Part {
    match path {
        "create token" => Part { judged: part.judged.with(Some(super::Sensitive::Values)), ..part },
        _ => part,
    }
}

/// What the flags of a harmless verb must not say.
fn check(path: &str, parsed: &Parsed<'_>, words: &[Word]) -> Result<(), String> {
    // What a container runs has flags of its own.
    let runs =
        matches!(path, "run" | "create job" | "create cronjob" | "create cj" | "create deployment" | "create deploy");
    let own = words.iter().position(|word| word.text == "--").filter(|_| runs).unwrap_or(words.len());
    if is_ambiguous(words.get(..own).unwrap_or_default()) {
        return Err("a flag within a word or behind `--` is not understood".into());
    }
    // Behind a flag of its own, a group's second word may still be its verb: `create --dry-run=client token x`.
    if matches!(path, "apply" | "create" | "cluster-info" | "top") && !parsed.operands.is_empty() {
        return Err(format!(
            "`{}` is not understood",
            parsed.operands.first().map_or_else(String::new, |w| show(&w.text))
        ));
    }
    if parsed.values("output").any(|output| output.contains("file")) {
        return Err("a template in a file is read from the server's disk".into());
    }
    let files = parsed.values("filename").chain(parsed.values("kustomize"));
    let built = parsed.operands.iter().map(|word| word.text.as_str()).filter(|_| path == "kustomize");
    if let Some(remote) = files.chain(built).find(|file| is_remote(file)) {
        return Err(format!("`{}` is fetched from elsewhere", show(remote)));
    }
    match parsed.values("raw").find(|path| !is_harmless_path(path)) {
        Some(raw) if path == "get" => Err(format!("`--raw {}` may do more than read", show(raw))),
        _ => Ok(()),
    }
}

/// Whether a file's name may be an address: `https://…`, `github.com/…`, `git@…`.
pub(super) fn is_remote(file: &str) -> bool {
    let first = file.split('/').next().unwrap_or_default();
    let domain = file.contains('/') && first.contains('.') && !matches!(first, "." | "..");
    file.contains("://") || file.contains(['@', '?', '%']) || domain || (file.contains(':') && !file.starts_with('/'))
}

/// A path of the API server itself. What it hands on (`proxy`) or starts (`exec`) may do anything, even by GET.
fn is_harmless_path(path: &str) -> bool {
    let route = path.split('?').next().unwrap_or_default();
    if !route.starts_with('/') || route.contains("//") || route.contains("..") || path.contains(['%', '\\', '#']) {
        return false;
    }
    let parts: Vec<&str> = route.split('/').skip(1).collect();
    if let ["api", "v1", "nodes", _, "proxy", below @ ..] = parts.as_slice() {
        return KUBELET_READS.contains(&below.join("/").as_str());
    }
    !parts.iter().any(|part| matches!(*part, "proxy" | "exec" | "attach" | "portforward" | "run" | "redirect"))
}
