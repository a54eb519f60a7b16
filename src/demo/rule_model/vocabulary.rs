//! The words that the rules recognize.

/// Words that cannot be names of objects.
#[rustfmt::skip]
pub(super) const FILLER_WORDS: &[&str] = &[
    "a", "about", "actually", "again", "all", "an", "and", "any", "anything", "app", "apps", "are", "as", "at",
    "be", "been", "being", "by", "can", "cluster", "could", "currently", "detail", "details", "did", "display",
    "do", "does", "doing", "down", "every", "everything", "for", "from", "get", "give", "going", "happened",
    "happening", "happens", "has", "have", "hello", "help", "here", "hey", "hi", "how", "i", "in", "is", "it",
    "its", "just", "kubectl", "last", "latest", "let's", "lets", "like", "look", "looks", "many", "me", "more",
    "much", "my", "newest", "not", "now", "of", "off", "ok", "on", "our", "out", "over", "please", "print",
    "recent", "run", "running", "runs", "see", "show", "so", "some", "start", "starting", "state", "still", "tell",
    "that", "the", "them", "then", "there", "these", "they", "this", "to", "too", "up", "us", "view", "want", "was",
    "we", "what", "what's", "whats", "when", "where", "which", "who", "why", "will", "with", "work", "working",
    "would", "yaml", "you", "your",
];

/// Words that ask for a diagnosis.
#[rustfmt::skip]
pub(super) const TROUBLE_WORDS: &[&str] = &[
    "alert", "alerts", "bad", "broken", "check", "crash", "crashed", "crashes", "crashing", "crashloop",
    "crashloopbackoff", "debug", "degraded", "diagnose", "diagnosis", "error", "errors", "fail", "failed",
    "failing", "fails", "failure", "failures", "fix", "health", "healthy", "imagepullbackoff", "incident",
    "investigate", "issue", "issues", "ok?", "pending", "problem", "problems", "repair", "restarting", "stuck",
    "troubleshoot", "unhealthy", "unready", "well", "why", "wrong",
];

/// Words of the rules, which cannot be names of objects either.
#[rustfmt::skip]
pub(super) const RULE_WORDS: &[&str] = &[
    "add", "apply", "back", "bounce", "change", "configuration", "cpu", "delete", "describe", "done", "explain",
    "finished", "image", "images", "increase", "inspect", "key", "kill", "lines", "list", "log", "logs", "lower",
    "make", "mem", "memory", "namespace", "namespaces", "ns", "patch", "previous", "put", "raise", "reduce",
    "remove", "replica", "replicas", "request", "requests", "resize", "resources", "restart", "revert", "roll",
    "rollback", "rollout", "scale", "set", "status", "tag", "tail", "undo", "until", "update", "upgrade", "use",
    "value", "version", "warning", "warnings", "workload", "workloads",
];

/// Messages that confirm the last suggestion.
#[rustfmt::skip]
pub(super) const CONFIRMATIONS: &[&str] = &[
    "yes", "y", "yes please", "do it", "do that", "ok do it", "go ahead", "yes do it", "please do", "apply it",
];
