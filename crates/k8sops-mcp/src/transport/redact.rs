//! Redaction of a child process's output: its configured secrets are replaced.

use std::{cmp::Reverse, collections::BTreeMap};

use secrecy::{ExposeSecret, SecretString};

/// Shortest value that is redacted, in bytes. Shorter ones would redact half of the output.
const MIN_SECRET_BYTES: usize = 6;
/// Shortest run of letters and digits that is taken for a random secret, if it has both.
const MIN_RANDOM_CHARS: usize = 16;
/// Parts of option names whose values are secret.
const SECRET_NAME_PARTS: [&str; 8] = ["token", "key", "secret", "pass", "auth", "credential", "bearer", "cookie"];

/// Redacts the secrets of one server.
pub(super) struct OutputRedactor {
    /// The longest first, so that a secret that is part of another leaves no remainder of it.
    secrets: Vec<SecretString>,
}

impl OutputRedactor {
    /// Creates the redactor of a server with these arguments, some of which look secret, and these variables, all of which
    /// are treated as secret.
    pub(super) fn new(args: &[String], env: &BTreeMap<String, SecretString>) -> Self {
        // Output is redacted line by line, so a value of several lines is several secrets.
        let values = env.values().flat_map(|value| value.expose_secret().lines());
        let mut secrets: Vec<&str> = values.chain(find_secret_arguments(args)).map(str::trim).collect();
        secrets.retain(|secret| secret.len() >= MIN_SECRET_BYTES);
        secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
        Self { secrets: secrets.into_iter().map(SecretString::from).collect() }
    }

    /// Returns the length of the longest secret, in bytes.
    pub(super) fn longest_secret(&self) -> usize {
        self.secrets.first().map_or(0, |secret| secret.expose_secret().len())
    }

    /// Replaces all secrets in a text by `***`.
    pub(super) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "***"))
    }
}

/// Returns what may be secret in a command line.
fn find_secret_arguments(args: &[String]) -> Vec<&str> {
    let mut found = Vec::new();
    let mut follows_secret_option = false;
    for arg in args {
        if follows_secret_option && !arg.starts_with('-') {
            found.push(arg.as_str());
        }
        let (name, value) = arg.split_once(['=', ':']).unwrap_or((arg, ""));
        let name = name.to_ascii_lowercase();
        let has_secret_name = SECRET_NAME_PARTS.iter().any(|part| name.contains(part));
        follows_secret_option = has_secret_name && value.is_empty() && name.starts_with('-');
        if has_secret_name && !value.is_empty() {
            found.push(value);
            // The output may contain only the token of `Authorization: Bearer TOKEN`.
            found.extend(value.split_whitespace().last());
        }
        found.extend(find_url_secrets(arg));
        found.extend(arg.split(|c: char| !c.is_ascii_alphanumeric()).filter(|run| looks_random(run)));
    }
    found
}

/// Returns the user and password, and the values of the query, in an argument that contains a URL.
fn find_url_secrets(arg: &str) -> Vec<&str> {
    let Some((_, rest)) = arg.split_once("://") else { return Vec::new() };
    let mut found = Vec::new();
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some((user, _)) = authority.rsplit_once('@') {
        found.push(user);
        found.extend(user.split_once(':').map(|(_, password)| password));
    }
    if let Some((_, query)) = rest.split_once('?') {
        found.extend(query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1)));
    }
    found
}

fn looks_random(run: &str) -> bool {
    run.len() >= MIN_RANDOM_CHARS
        && run.bytes().any(|byte| byte.is_ascii_digit())
        && run.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(args: &[&str], output: &str) -> String {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = BTreeMap::from([("PEM".to_owned(), SecretString::from("first line\nsecond line"))]);
        OutputRedactor::new(&args, &env).redact(output)
    }

    #[test]
    fn only_secret_looking_arguments_are_redacted() {
        for (args, output, redacted) in [
            (&["--token", "hunter22"][..], "no hunter22", "no ***"),
            (&["--api-key=hunter22"], "no hunter22", "no ***"),
            (&["--header", "Authorization: Bearer hunter22"], "sent hunter22, Bearer hunter22", "sent ***, ***"),
            (
                &["https://me:hunter22@host/mcp"],
                "cannot reach https://me:hunter22@host",
                "cannot reach https://***@host",
            ),
            (&["https://host/mcp?access=hunter22"], "hunter22 is old", "*** is old"),
            (&["ghp_0123456789abcdefGHIJ"], "ghp_0123456789abcdefGHIJ", "ghp_***"),
            (&["-y", "kubernetes-mcp-server@latest"], "kubernetes-mcp-server@latest", "kubernetes-mcp-server@latest"),
            (&["--port", "8080000"], "port 8080000", "port 8080000"),
            (&["--keyring"], "--keyring", "--keyring"),
            (&[], "it says second line", "it says ***"),
        ] {
            assert_eq!(redact(args, output), redacted, "{args:?}");
        }
    }

    #[test]
    fn secret_within_another_leaves_no_remainder() {
        assert_eq!(redact(&["--token", "hunter22", "--password", "hunter22hunter33"], "hunter22hunter33"), "***");
    }
}
