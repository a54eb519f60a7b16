//! Kubeconfig files of processes that belong to one user or one session.
//!
//! `kubectl config use-context` writes the current context to a file, which all processes of the machine would share. So such
//! a process gets a `KUBECONFIG` whose first file is its own: kubectl writes the current context there and reads everything
//! else from the files behind it (rules of kubectl for several files in `KUBECONFIG`).

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A kubeconfig without clusters, users and a current context.
const EMPTY_KUBECONFIG: &str = "apiVersion: v1\nkind: Config\n";

/// A directory with one kubeconfig per owner, removed with this value. A file stays while its owner has no process, so that
/// the next process starts in the same context.
#[derive(Debug)]
pub(crate) struct PrivateKubeconfigs {
    directory: PathBuf,
}

impl PrivateKubeconfigs {
    /// Creates the directory, which only we can read.
    pub(crate) fn create() -> io::Result<Self> {
        let name = format!("k8sops-kubeconfig-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { directory })
    }

    /// Returns the `KUBECONFIG` of an owner: its own file before `inherited`.
    pub(crate) fn variable_of(&self, owner: &str, inherited: &str) -> io::Result<String> {
        let file = self.directory.join(owner);
        if !file.exists() {
            let mut created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
            created.write_all(EMPTY_KUBECONFIG.as_bytes())?;
        }
        Ok(format!("{}:{inherited}", file.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_files_of_their_own() {
        let configs = PrivateKubeconfigs::create().unwrap();
        let anna = configs.variable_of("anna", "/srv/kubeconfig").unwrap();
        let file = anna.strip_suffix(":/srv/kubeconfig").unwrap().to_owned();
        fs::write(&file, "current-context: prod\n").unwrap();
        assert_eq!(configs.variable_of("anna", "/srv/kubeconfig").unwrap(), anna);
        assert_eq!(fs::read_to_string(&file).unwrap(), "current-context: prod\n", "the context is kept");
        assert_ne!(configs.variable_of("ben", "/srv/kubeconfig").unwrap(), anna);
        drop(configs);
        assert!(!Path::new(&file).exists());
    }
}
