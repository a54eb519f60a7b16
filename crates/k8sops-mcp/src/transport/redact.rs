//! What is secret in the words of a child process: the values that were configured for it.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

/// A configured value shorter than this is not masked: it would mask half of what is said.
const MIN_SECRET: usize = 6;
/// A row of letters and digits as long as this, with both in it, is no word that people write.
const MIN_RANDOM: usize = 16;
/// Words in the name of an option whose value is secret.
const SECRET_NAMES: [&str; 8] = ["token", "key", "secret", "pass", "auth", "credential", "bearer", "cookie"];

/// Takes the secrets of one server out of its words.
pub(crate) struct Mask {
    /// Longest first: one that is part of another must not leave the rest of it.
    secrets: Vec<SecretString>,
}

impl Mask {
    /// For a server that got these variables, all of them secret, and these arguments, of which some look it.
    pub(crate) fn new(args: &[String], env: &BTreeMap<String, SecretString>) -> Self {
        // Of a value of several lines one is said at a time.
        let values = env.values().flat_map(|value| value.expose_secret().lines());
        let mut secrets: Vec<&str> = values.chain(secret_arguments(args)).map(str::trim).collect();
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets: secrets.into_iter().map(SecretString::from).collect() }
    }

    /// The length of the longest secret.
    pub(crate) fn longest(&self) -> usize {
        self.secrets.first().map_or(0, |secret| secret.expose_secret().len())
    }

    /// A text without the secrets.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "***"))
    }
}

/// What may be secret in a command line.
fn secret_arguments(args: &[String]) -> Vec<&str> {
    let mut found = Vec::new();
    let mut named = false;
    for arg in args {
        if named && !arg.starts_with('-') {
            found.push(arg.as_str());
        }
        let (name, value) = arg.split_once(['=', ':']).unwrap_or((arg, ""));
        let name = name.to_ascii_lowercase();
        let secret = SECRET_NAMES.iter().any(|word| name.contains(word));
        named = secret && value.is_empty() && name.starts_with('-');
        if secret && !value.is_empty() {
            found.push(value);
            // Of `Authorization: Bearer TOKEN` the token alone may be said.
            found.extend(value.split_whitespace().last());
        }
        found.extend(in_address(arg));
        found.extend(arg.split(|c: char| !c.is_ascii_alphanumeric()).filter(|row| is_random(row)));
    }
    found
}

/// The user and password, and the values of the query, in an argument with a URL in it.
fn in_address(arg: &str) -> Vec<&str> {
    let Some((_, address)) = arg.split_once("://") else { return Vec::new() };
    let mut found = Vec::new();
    let authority = &address[..address.find(['/', '?', '#']).unwrap_or(address.len())];
    if let Some((user, _)) = authority.rsplit_once('@') {
        found.push(user);
        found.extend(user.split_once(':').map(|(_, password)| password));
    }
    if let Some((_, query)) = address.split_once('?') {
        found.extend(query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1)));
    }
    found
}

fn is_random(row: &str) -> bool {
    row.len() >= MIN_RANDOM && row.bytes().any(|b| b.is_ascii_digit()) && row.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(args: &[&str], said: &str) -> String {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = BTreeMap::from([("PEM".to_owned(), SecretString::from("first line\nsecond line"))]);
        Mask::new(&args, &env).apply(said)
    }

    #[test]
    fn arguments_that_look_secret_are_masked_and_others_are_not() {
        for (args, said, shown) in [
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
            assert_eq!(masked(args, said), shown, "{args:?}");
        }
    }

    #[test]
    fn a_secret_within_another_leaves_no_rest_of_it() {
        assert_eq!(masked(&["--token", "hunter22", "--password", "hunter22hunter33"], "hunter22hunter33"), "***");
    }
}
