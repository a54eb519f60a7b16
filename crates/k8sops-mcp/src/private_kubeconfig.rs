//! Kubeconfig files of processes that belong to one user or one session.
//!
//! `kubectl config use-context` writes the current context to a file, and `set-context`, `set-cluster` and `set-credentials`
//! write to the file that has the entry. All processes of the machine would share these files. So such a process gets copies of
//! them, in a directory of its own, and a `KUBECONFIG` that names nothing else. The file before the copies is for the current
//! context (rules of kubectl for several files in `KUBECONFIG`).

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A kubeconfig without clusters, users and a current context.
const EMPTY_KUBECONFIG: &str = "apiVersion: v1\nkind: Config\n";
const DIRECTORY_PREFIX: &str = "k8sops-kubeconfig-";
/// A file that is locked as long as the directory is used, so that the next process knows what a killed one left behind.
const LOCK_FILE: &str = "lock";

/// A directory with kubeconfigs per owner, removed with this value. The files stay while their owner has no process, so that the
/// next process starts in the same context.
#[derive(Debug)]
pub(crate) struct PrivateKubeconfigs {
    directory: PathBuf,
    /// What the copied files held when they were copied, by the path of the copy.
    copied: Mutex<HashMap<PathBuf, Vec<u8>>>,
    _lock: File,
}

impl PrivateKubeconfigs {
    /// Creates the directory, which only we can read, and removes those of processes that were killed.
    pub(crate) fn create() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned_directories(&parent);
        let name = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        // It gets its name when it is locked, so that no other process takes it for an abandoned one.
        let unlocked = parent.join(format!("k8sops-new-{name}"));
        fs::DirBuilder::new().mode(0o700).create(&unlocked)?;
        let lock = File::create(unlocked.join(LOCK_FILE))?;
        lock.lock()?;
        let directory = parent.join(format!("{DIRECTORY_PREFIX}{name}"));
        fs::rename(&unlocked, &directory)?;
        Ok(Self { directory, copied: Mutex::default(), _lock: lock })
    }

    /// Returns the `KUBECONFIG` of an owner: a file for the current context, and a copy of each file of the list `inherited`. A
    /// copy is renewed if the file has changed since; otherwise it keeps what the owner has changed in it.
    pub(crate) fn kubeconfig_variable(&self, owner: &str, inherited: &str) -> io::Result<String> {
        let directory = self.directory.join(owner);
        if !directory.exists() {
            fs::DirBuilder::new().mode(0o700).create(&directory)?;
        }
        let context = directory.join("context");
        if !context.exists() {
            write_private_file(&context, EMPTY_KUBECONFIG)?;
        }
        let mut files = vec![context.display().to_string()];
        for (at, source) in inherited.split(':').enumerate().filter(|(_, source)| !source.is_empty()) {
            let text = match fs::read_to_string(source) {
                Ok(text) => text,
                // kubectl, too, goes past files that do not exist.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io::Error::new(error.kind(), format!("cannot read {source}: {error}"))),
            };
            let copy = directory.join(at.to_string());
            let digest = Sha256::digest(&text).to_vec();
            let mut copied = self.copied.lock();
            if copied.get(&copy) != Some(&digest) {
                write_private_file(&copy, &with_absolute_paths(&text, Path::new(source))?)?;
                copied.insert(copy.clone(), digest);
            }
            files.push(copy.display().to_string());
        }
        Ok(files.join(":"))
    }
}

impl Drop for PrivateKubeconfigs {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "private kubeconfigs not removed");
        }
    }
}

/// Returns the files that a program without a `KUBECONFIG` of its own reads; `None` if there are none. Then the program may
/// find its cluster in another way, which an empty file would prevent.
pub(crate) fn inherited_kubeconfig(configured: Option<&str>) -> Option<String> {
    if let Some(list) = configured.map(str::to_owned).or_else(|| std::env::var("KUBECONFIG").ok()) {
        return list.split(':').any(|file| Path::new(file).exists()).then_some(list);
    }
    let default = Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    default.exists().then(|| default.display().to_string())
}

/// Removes the directories of processes that were killed before they could remove them.
fn remove_abandoned_directories(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX)) {
        let lock = File::open(entry.path().join(LOCK_FILE));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            // Removing another user's directory fails; that is ignored.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a file that only we can read. A reader sees the old text or the new one.
fn write_private_file(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

/// Returns a kubeconfig whose relative paths name the same files from anywhere: they are relative to the directory of the file.
fn with_absolute_paths(text: &str, source: &Path) -> io::Result<String> {
    let not_a_kubeconfig = |reason: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is no kubeconfig: {reason}", source.display()))
    };
    if text.trim().is_empty() {
        return Ok(EMPTY_KUBECONFIG.to_owned());
    }
    // The error of the parser shows lines of the file, which may hold a token.
    let mut config: Value = serde_saphyr::from_str(text).map_err(|_| not_a_kubeconfig("no valid YAML".to_owned()))?;
    let directory = std::path::absolute(source)?.parent().map(Path::to_path_buf).unwrap_or_default();
    let resolve = |value: Option<&mut Value>| {
        if let Some(Value::String(path)) = value
            && !path.is_empty()
        {
            // An absolute path stays as it is.
            *path = directory.join(path.as_str()).display().to_string();
        }
    };
    let entries = |config: &mut Value, list: &str, entry: &str, resolve_entry: &dyn Fn(&mut Value)| {
        let items = config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        items.filter_map(|item| item.get_mut(entry)).for_each(resolve_entry);
    };
    entries(&mut config, "clusters", "cluster", &|cluster| resolve(cluster.get_mut("certificate-authority")));
    entries(&mut config, "users", "user", &|user| {
        for key in ["client-certificate", "client-key", "tokenFile"] {
            resolve(user.get_mut(key));
        }
        // A command without a `/` is looked up in PATH.
        let command = user.get_mut("exec").and_then(|exec| exec.get_mut("command"));
        resolve(command.filter(|command| command.as_str().is_some_and(|command| command.contains('/'))));
    });
    // JSON is YAML, too.
    serde_json::to_string_pretty(&config).map_err(|error| not_a_kubeconfig(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SHARED: &str = "apiVersion: v1\nkind: Config\ncurrent-context: prod\n\
        clusters:\n- {name: prod, cluster: {server: 'https://prod', certificate-authority: ca.crt}}\n\
        users:\n- {name: ops, user: {tokenFile: /run/token, client-key: keys/ops.key, exec: {command: ./bin/login}}}\n\
        - {name: cloud, user: {exec: {command: aws}}}\n\
        contexts:\n- {name: prod, context: {cluster: prod, user: ops}}\n";

    #[test]
    fn owners_have_copies_of_their_own() {
        let shared = tempfile::tempdir().unwrap();
        let source = shared.path().join("config");
        fs::write(&source, SHARED).unwrap();
        let inherited = format!("{}:/nonexistent/kubeconfig", source.display());
        let configs = PrivateKubeconfigs::create().unwrap();
        let anna = configs.kubeconfig_variable("anna", &inherited).unwrap();
        let [context, copy] = anna.split(':').collect::<Vec<_>>().try_into().unwrap();
        assert!(!anna.contains(&source.display().to_string()), "{anna}");
        for file in [context, copy] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        let config: Value = serde_json::from_str(&fs::read_to_string(copy).unwrap()).unwrap();
        let below = |path: &str| shared.path().join(path).display().to_string();
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority"], below("ca.crt"));
        let user = &config["users"][0]["user"];
        assert_eq!((&user["tokenFile"], &user["client-key"]), (&"/run/token".into(), &below("keys/ops.key").into()));
        assert_eq!(user["exec"]["command"], below("./bin/login"));
        assert_eq!(config["users"][1]["user"]["exec"]["command"], "aws");
        // What the owner changes stays, until the operator changes the file.
        fs::write(copy, "changed by anna").unwrap();
        assert_eq!(configs.kubeconfig_variable("anna", &inherited).unwrap(), anna);
        assert_eq!(fs::read_to_string(copy).unwrap(), "changed by anna");
        assert_eq!(fs::read_to_string(&source).unwrap(), SHARED);
        fs::write(&source, SHARED.replace("https://prod", "https://moved")).unwrap();
        configs.kubeconfig_variable("anna", &inherited).unwrap();
        assert!(fs::read_to_string(copy).unwrap().contains("https://moved"));
        assert_ne!(configs.kubeconfig_variable("ben", &inherited).unwrap(), anna);
        let directory = configs.directory.clone();
        drop(configs);
        assert!(!directory.exists());
    }

    #[test]
    fn file_that_is_no_kubeconfig_is_an_error_without_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "token: [hunter2").unwrap();
        let configs = PrivateKubeconfigs::create().unwrap();
        let error = configs.kubeconfig_variable("anna", &file.path().display().to_string()).unwrap_err().to_string();
        assert!(error.contains("is no kubeconfig") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn directory_of_a_killed_process_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            let directory = parent.path().join(name);
            fs::create_dir(&directory).unwrap();
            (File::create(directory.join(LOCK_FILE)).unwrap(), directory)
        };
        let (abandoned_lock, abandoned) = create("k8sops-kubeconfig-1-a");
        let (used_lock, used) = create("k8sops-kubeconfig-2-b");
        let (other_lock, other) = create("something-else");
        used_lock.lock().unwrap();
        drop((abandoned_lock, other_lock));
        remove_abandoned_directories(parent.path());
        assert_eq!([abandoned.exists(), used.exists(), other.exists()], [false, true, true]);
    }
}
