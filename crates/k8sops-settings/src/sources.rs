//! Where settings come from.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use crate::dotenv;

/// The sources of settings, as text. A test can say what the environment is.
#[derive(Clone, Default)]
pub struct SettingSources {
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The text of `.env`, if the file exists.
    pub dotenv: Option<String>,
    /// The user's YAML: its path, for messages, and its text.
    pub yaml: Option<(PathBuf, String)>,
}

/// A source that exists and cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The `.env` file of the working directory.
    #[error("cannot read .env: {source}; make it readable, or remove it")]
    Dotenv {
        /// Why.
        source: io::Error,
    },
    /// The user's YAML.
    #[error("{variable} is `{value}`, which cannot be read ({source}); allowed: the path of a YAML file")]
    Yaml {
        /// The variable that names the file.
        variable: &'static str,
        /// The value of the variable.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl SettingSources {
    /// Reads the environment of this process, the `.env` of its working directory, and the YAML file that
    /// `file_variable` names.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read_from_process(file_variable: &'static str) -> Result<Self, SourceError> {
        // Names and values that are not UTF-8 are ignored: every setting is text.
        let env: BTreeMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let dotenv = match std::fs::read_to_string(".env") {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(SourceError::Dotenv { source }),
        };
        let in_dotenv = || dotenv.as_deref().and_then(|text| dotenv::parse_dotenv(text).0.remove(file_variable));
        let named = env.get(file_variable).cloned().or_else(in_dotenv).filter(|path| !path.trim().is_empty());
        let yaml = match named {
            None => None,
            Some(value) => {
                let path = expand_home(Path::new(value.trim()), env.get("HOME").map(String::as_str))
                    .unwrap_or_else(|| PathBuf::from(value.trim()));
                match std::fs::read_to_string(&path) {
                    Ok(text) => Some((path, text)),
                    Err(source) => return Err(SourceError::Yaml { variable: file_variable, value, source }),
                }
            }
        };
        Ok(Self { env, dotenv, yaml })
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The default of the setting, or the YAML that is compiled in.
    Default,
    /// The user's YAML.
    Yaml {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: u64,
    },
    /// A variable of `.env`.
    Dotenv(String),
    /// A variable of the environment.
    Environment(String),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Yaml { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Dotenv(name) => write!(f, "{name} (.env)"),
            Self::Environment(name) => write!(f, "{name} (environment)"),
        }
    }
}

/// Expands a `~` at the beginning of a path; `None` if there is one and no home directory is known.
pub(crate) fn expand_home(path: &Path, home: Option<&str>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => home.map(|home| Path::new(home).join(rest)),
        Err(_) => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_expanded_at_the_beginning_only() {
        let expand = |path: &str| expand_home(Path::new(path), Some("/h")).unwrap();
        assert_eq!(expand("~"), PathBuf::from("/h/"));
        assert_eq!(expand("~/a"), PathBuf::from("/h/a"));
        assert_eq!(expand("~//a"), PathBuf::from("/h/a"));
        assert_eq!(expand("~a"), PathBuf::from("~a"));
        assert_eq!(expand("/a/~"), PathBuf::from("/a/~"));
        assert_eq!(expand_home(Path::new("~/a"), None), None);
        assert_eq!(expand_home(Path::new("a"), None), Some(PathBuf::from("a")));
    }
}
