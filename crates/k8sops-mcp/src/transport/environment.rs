//! What a child process gets of our own environment.

use std::{collections::BTreeMap, ffi::OsString};

use secrecy::SecretString;

/// Variables that a server inherits. All others (the API keys of models above all) are withheld; what a server needs in
/// addition is configured for it.
const INHERITED_VARIABLES: &[&str] = &[
    // What every program needs.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    // Certificates.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    // The cluster.
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    // Logins of clouds that do without a secret in the environment: files, roles and federated tokens.
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_CA_BUNDLE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "CLOUDSDK_CONFIG",
    "CLOUDSDK_CORE_PROJECT",
    "USE_GKE_GCLOUD_AUTH_PLUGIN",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CONFIG_DIR",
    "AZURE_SUBSCRIPTION_ID",
];

/// Inherited variables whose values are secret, or can contain a secret: proxies with a password, and cloud keys.
const SECRET_VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
];

/// Inherited variables that are no secrets, although they stand among those.
const PLAIN_VARIABLES: &[&str] = &["NO_PROXY", "no_proxy"];

/// Returns the variables that a server inherits, those of `pass_env` included.
pub(super) fn inherited_variables(pass_env: &[String]) -> impl Iterator<Item = (&str, OsString)> {
    let known = INHERITED_VARIABLES.iter().chain(SECRET_VARIABLES).copied();
    known.chain(pass_env.iter().map(String::as_str)).filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Returns the inherited variables whose values must not occur in logs. What the operator passes on counts as secret.
pub(super) fn secret_variables(pass_env: &[String]) -> BTreeMap<String, SecretString> {
    let names = SECRET_VARIABLES.iter().filter(|name| !PLAIN_VARIABLES.contains(name)).copied();
    let names = names.chain(pass_env.iter().map(String::as_str));
    names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?.into()))).collect()
}
