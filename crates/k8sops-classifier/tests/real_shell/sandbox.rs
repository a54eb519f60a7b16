//! A directory with programs and files in which a line runs, and what must not happen there.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Content of the files, which no line may print.
const FILE_MARK: &str = "content-of-a-file";
/// Value of an environment variable, which no line may print.
const VARIABLE_MARK: &str = "value-of-a-variable";
/// A line that runs longer, for example because a filter waits, is stopped.
const TIME_LIMIT: &str = "3";

/// What the stand-ins print: objects for what prints only names, and else what anybody might have written into a log.
const PROGRAM_OUTPUT: &str = r#"
[ "$SANDBOX_OUTPUT" = empty ] && exit 0
case " $* " in
*" -o name "*|*" -q "*) printf 'pod/delete\npod/web-0\npod/scale\n';;
*metadata.name*) printf 'delete web-0 apply';;
*" -o json "*) echo '{"items":[{"metadata":{"name":"delete","namespace":"sync"},"data":{"x":"-f"}}]}';;
*" get pods"*) printf 'NAME READY STATUS RESTARTS AGE\ndelete 1/1 Running 3 (5m ago)\nweb-0 0/1 Error <none> 5d\n';;
*) printf '%s\n' '--server=http://evil' '-f secret.txt' 'x; evil' '$(evil) `evil`' 'a[$(evil >&2)]' '* delete' "'-n' x delete pod y";;
esac
"#;

const FILTERS: &[&str] = &[
    "grep", "egrep", "fgrep", "sort", "uniq", "cut", "tr", "head", "tail", "wc", "cat", "tac", "rev", "nl", "base64",
    "awk", "gawk", "mawk", "sed", "jq", "yq", "column", "less", "more", "paste", "fold", "expand", "rg", "date",
    "timeout", "bash", "sh", "true", "false", "xargs", "env", "nice", "stdbuf", "seq", "diff", "comm", "join",
    "basename", "dirname", "which",
];
const FORBIDDEN_PROGRAMS: &[&str] = &[
    "rm", "mv", "cp", "tee", "curl", "touch", "printenv", "id", "sudo", "python3", "find", "evil", "pods", "get",
    "delete", "kubectl2", "ls", "mkdir", "eval2",
];
const FILES: &[&str] = &["secret.txt", ".env", "values.yaml", "f", "deploy.yaml", "m.jq", "x"];

/// How much the stand-ins print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgramOutput {
    Nothing,
    Everything,
}

/// A directory in which lines run.
pub(crate) struct Sandbox {
    root: tempfile::TempDir,
}

/// A tool gives its line to one of these; `sh` is dash on Debian, which knows less syntax than bash.
const SHELLS: &[&str] = &["/bin/bash", "/bin/sh"];

impl Sandbox {
    pub(crate) fn create() -> Self {
        let root = tempfile::tempdir().unwrap();
        let programs = root.path().join("bin");
        fs::create_dir(&programs).unwrap();
        fs::create_dir(root.path().join("work")).unwrap();
        // One write per call, because stand-ins of a pipeline run at the same time.
        let logging = "#!/bin/sh\nrecord=${0##*/}\nfor word; do record=\"$record\u{1f}$word\"; done\n\
                       printf '%s\u{1e}' \"$record\" >> \"$SANDBOX_LOG\"\n";
        for program in ["kubectl", "helm", "argocd"] {
            let text = format!("{logging}{PROGRAM_OUTPUT}");
            write_program(&programs.join(program), &text);
        }
        for program in FORBIDDEN_PROGRAMS {
            write_program(&programs.join(program), logging);
        }
        write_program(&programs.join("sleep"), "#!/bin/sh\n");
        for filter in FILTERS {
            let found = ["/usr/bin", "/bin"]
                .map(|folder| Path::new(folder).join(filter))
                .into_iter()
                .find(|path| path.exists());
            if let Some(path) = found {
                symlink(path, programs.join(filter)).unwrap();
            }
        }
        let sandbox = Self { root };
        sandbox.write_files();
        sandbox
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn write_files(&self) {
        let _ = fs::remove_dir_all(self.work_dir());
        fs::create_dir(self.work_dir()).unwrap();
        for file in FILES {
            fs::write(self.work_dir().join(file), format!("{FILE_MARK}: {file}\n")).unwrap();
        }
    }

    fn snapshot(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let entries = fs::read_dir(self.work_dir()).unwrap();
        entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).ok())).collect()
    }

    /// Runs a line in each shell. Returns what it did that a read-only line must not do.
    pub(crate) fn run_line(&self, line: &str, printed: ProgramOutput) -> Option<String> {
        SHELLS.iter().find_map(|shell| {
            let change = self.run_line_in(shell, line, printed)?;
            Some(format!("in {shell}: {change}"))
        })
    }

    fn run_line_in(&self, shell: &str, line: &str, printed: ProgramOutput) -> Option<String> {
        let log = self.root.path().join("log");
        fs::write(&log, "").unwrap();
        let before = self.snapshot();
        let output = self.run_shell(shell, line, &log, printed);
        if self.snapshot() != before {
            self.write_files();
            return Some("it changed a file".to_owned());
        }
        for mark in [FILE_MARK, VARIABLE_MARK] {
            if output.contains(mark) {
                return Some(format!("it printed {mark:?}"));
            }
        }
        let calls = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        calls.split('\u{1e}').filter(|call| !call.is_empty()).find_map(|call| {
            let words: Vec<&str> = call.split('\u{1f}').collect();
            let (program, arguments) = words.split_first()?;
            find_change(program, arguments).map(|what| format!("it ran {words:?}: {what}"))
        })
    }

    /// Returns what a line prints. It returns when all processes have closed their output, also those in the background.
    fn run_shell(&self, shell: &str, line: &str, log: &Path, printed: ProgramOutput) -> String {
        let output = Command::new("/usr/bin/timeout")
            .args([TIME_LIMIT, shell, "-c", line])
            .current_dir(self.work_dir())
            .env_clear()
            .env("PATH", self.root.path().join("bin"))
            .env("HOME", self.work_dir())
            .env("SANDBOX_LOG", log)
            .env("CANARY", VARIABLE_MARK)
            .env("SANDBOX_OUTPUT", if printed == ProgramOutput::Nothing { "empty" } else { "full" })
            .stdin(Stdio::null())
            .output()
            .expect("the test needs /usr/bin/timeout, /bin/bash and /bin/sh");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

const VALUE_FLAGS: &[&str] = &[
    "-n",
    "--namespace",
    "--context",
    "-l",
    "--selector",
    "-o",
    "--output",
    "-c",
    "--tail",
    "--since",
    "--field-selector",
];
const MUTATING_VERBS: &[&str] = &[
    "delete",
    "apply",
    "create",
    "scale",
    "patch",
    "replace",
    "label",
    "annotate",
    "edit",
    "exec",
    "drain",
    "cordon",
    "run",
    "set",
    "cp",
    "debug",
    "attach",
    "proxy",
    "install",
    "upgrade",
    "uninstall",
    "rollback",
    "sync",
];
const MUTATING_SUBCOMMANDS: &[&str] =
    &["restart", "undo", "use-context", "set-context", "token", "add", "sync", "delete"];
const FORBIDDEN_FLAGS: &[&str] = &[
    "--as",
    "--server",
    "-s",
    "--kubeconfig",
    "--token",
    "--from-file",
    "--from-env-file",
    "--patch-file",
    "--set-file",
    "--post-renderer",
];

/// Returns what a call of a program changes, if it changes something. This is a second opinion, which shares no code with
/// the classifier.
fn find_change(program: &str, arguments: &[&str]) -> Option<String> {
    if !matches!(program, "kubectl" | "helm" | "argocd") {
        return Some("a forbidden program".to_owned());
    }
    // A program ends here without doing anything.
    let is_help = arguments.last().is_some_and(|last| matches!(*last, "--help" | "-h"));
    let mut operands = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.starts_with('-') {
            true if VALUE_FLAGS.contains(word) => _ = words.next(),
            true => {}
            false => operands.push(*word),
        }
    }
    let (verb, subcommand) = (*operands.first()?, operands.get(1).copied().unwrap_or_default());
    let before_separator = || arguments.iter().take_while(|word| **word != "--");
    let dry_runs: Vec<&&str> = before_separator().filter(|word| word.starts_with("--dry-run")).collect();
    let is_dry_run = !dry_runs.is_empty()
        && dry_runs.iter().all(|word| matches!(**word, "--dry-run" | "--dry-run=server" | "--dry-run=client"));
    let is_group = matches!(verb, "rollout" | "config" | "create" | "repo" | "app");
    if !is_help
        && (MUTATING_VERBS.contains(&verb) || (is_group && MUTATING_SUBCOMMANDS.contains(&subcommand)))
        && !is_dry_run
    {
        return Some("a change without a dry run".to_owned());
    }
    let mut words = before_separator();
    let mut flag = None;
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        let reads_file =
            verb != "logs" && matches!(*word, "-f" | "-k" | "--filename") && words.clone().next().is_some();
        // `-s` of `helm template` chooses templates.
        let is_forbidden = (FORBIDDEN_FLAGS.contains(&name) && !(name == "-s" && program == "helm"))
            || reads_file
                && words.clone().next().is_some_and(|file| *file != "-" && verb != "diff" && program == "kubectl")
            || word.contains("template-file")
            || word.contains("jsonpath-file");
        if is_forbidden {
            flag = Some(word);
        }
        // The program takes the next word for the value, whatever it is.
        if VALUE_FLAGS.contains(word) {
            words.next();
        }
    }
    flag.map(|flag| format!("with the flag {flag}"))
}
