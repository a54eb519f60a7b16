//! Options of authentication.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use ipnet::IpNet;
use jsonwebtoken::Algorithm;
use k8sops_core::is_loopback;
use k8sops_settings::{
    SettingReader, ValueFormat,
    declaration::{optional, or_empty, required},
    formats::{ASCII_TOKEN, BOOLEAN, DURATION, HOME_PATH},
    options, words,
};

options! {
    /// How callers are authenticated.
    #[derive(Debug, Clone)]
    pub struct AuthOptions at "auth" {
        /// How callers are authenticated; `none` treats every caller as the user of MEMORY_USER_ID.
        pub mode: AuthModeName = required(AUTH_MODE, "none").variable("AUTH_MODE"),
        /// Whether the service may listen beyond the loopback interface though AUTH_MODE=none admits every caller.
        pub allow_insecure: bool = required(BOOLEAN, "false").variable("AUTH_ALLOW_INSECURE"),
        /// Who may read /metrics: every caller, or callers with the role admin.
        pub metrics: MetricsAccess = required(METRICS_ACCESS, "open").variable("AUTH_METRICS"),
        /// File of hashed keys (mode api_key); `k8sops key` makes a key and its entry.
        pub api_keys_file: Option<PathBuf> =
            optional(HOME_PATH).variable("AUTH_API_KEYS_FILE").example("/etc/k8sops/keys.yaml"),
    }
}

options! {
    /// Tokens of an OIDC issuer (mode jwt).
    #[derive(Debug, Clone)]
    pub struct JwtOptions at "auth.jwt" {
        /// The OIDC issuer, exactly as in `iss`; its discovery document is read from below it.
        pub issuer: String =
            or_empty(ISSUER).variable("AUTH_JWT_ISSUER").example("https://login.example.com/realms/ops"),
        /// The audience that must be in `aud`.
        pub audience: String = or_empty(ASCII_TOKEN).variable("AUTH_JWT_AUDIENCE").example("k8sops"),
        /// Accepted signature algorithms.
        pub algorithms: Vec<Algorithm> =
            required(SIGNATURE_ALGORITHMS, "RS256,ES256").variable("AUTH_JWT_ALGORITHMS"),
        /// How far the clocks of issuer and service may differ.
        pub clock_skew: Duration = required(DURATION, "60s").variable("AUTH_JWT_CLOCK_SKEW"),
        /// The claim that names the user.
        pub user_claim: String = required(ASCII_TOKEN, "sub").variable("AUTH_JWT_USER_CLAIM"),
        /// The claim that lists roles, dots for depth; empty: every caller has the role user.
        pub roles_claim: Option<String> =
            optional(ASCII_TOKEN).variable("AUTH_JWT_ROLES_CLAIM").example("realm_access.roles"),
    }
}

options! {
    /// Headers of a proxy that has authenticated the caller (mode proxy).
    #[derive(Debug, Clone)]
    pub struct ProxyOptions at "auth.proxy" {
        /// The header that names the user.
        pub user_header: String =
            or_empty(IDENTITY_HEADER).variable("AUTH_PROXY_USER_HEADER").example("X-Auth-Request-User"),
        /// The header that lists roles; empty: every caller has the role user.
        pub roles_header: Option<String> =
            optional(IDENTITY_HEADER).variable("AUTH_PROXY_ROLES_HEADER").example("X-Auth-Request-Groups"),
        /// The proxies whose headers are trusted.
        pub sources: Vec<IpNet> = or_empty(NETWORKS).variable("AUTH_PROXY_SOURCES").example("10.1.0.0/16"),
        /// Whether AUTH_PROXY_SOURCES may contain networks larger than /8 (IPv4) or /7 (IPv6), like 0.0.0.0/0, whose members can
        /// name themselves any user.
        pub allow_any_source: bool = required(BOOLEAN, "false").variable("AUTH_PROXY_ALLOW_ANY_SOURCE"),
    }
}

/// The name of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthModeName {
    /// No authentication.
    None,
    /// Keys of the operator.
    ApiKey,
    /// Tokens of an OIDC issuer.
    Jwt,
    /// Headers of a proxy.
    Proxy,
}

const AUTH_MODE: ValueFormat<AuthModeName> = words! {
    "none" => AuthModeName::None,
    "api_key" => AuthModeName::ApiKey,
    "jwt" => AuthModeName::Jwt,
    "proxy" => AuthModeName::Proxy,
};

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Every caller.
    Open,
    /// Callers with the role `admin`.
    Admin,
}

const METRICS_ACCESS: ValueFormat<MetricsAccess> =
    words! { "open" => MetricsAccess::Open, "admin" => MetricsAccess::Admin };

const ISSUER: ValueFormat<String> =
    ValueFormat::described("an https:// URL, or http:// on this machine, without a query", parse_issuer);

const SIGNATURE_ALGORITHMS: ValueFormat<Vec<Algorithm>> = ValueFormat::described(
    "some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA with commas between",
    parse_signature_algorithms,
);

const IDENTITY_HEADER: ValueFormat<String> =
    ValueFormat::described("the name of a header that names a user", parse_identity_header);

const NETWORKS: ValueFormat<Vec<IpNet>> =
    ValueFormat::described("IP addresses and networks like 10.0.0.0/8 with commas between", parse_networks);

/// Authentication as it is configured: the mode with everything that it needs.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// How callers are authenticated.
    pub mode: AuthMode,
    /// Whether the service may listen beyond the loopback interface though every caller is admitted.
    pub allow_insecure: bool,
    /// Who may read `/metrics`.
    pub metrics: MetricsAccess,
}

/// How callers are authenticated.
#[derive(Debug, Clone)]
pub enum AuthMode {
    /// Every caller is the user of `MEMORY_USER_ID`.
    None,
    /// Keys that the operator issues.
    ApiKey {
        /// The file of hashed keys.
        file: PathBuf,
    },
    /// Signed tokens of an OIDC issuer; issuer and audience are set.
    Jwt(JwtOptions),
    /// A header of a proxy that has authenticated the caller; header and sources are set.
    Proxy(ProxyOptions),
}

impl AuthConfig {
    /// Reads the settings under `auth`. Which of them are needed depends on the mode.
    pub fn read_settings(reader: &mut SettingReader) -> Self {
        let options: AuthOptions = reader.read_section();
        let jwt: JwtOptions = reader.read_section();
        let proxy: ProxyOptions = reader.read_section();
        let mut require = |variable: &str, is_set: bool| {
            if !is_set {
                reader.report_problem(format!("{variable} is not set, and AUTH_MODE needs it"));
            }
        };
        let mode = match options.mode {
            AuthModeName::None => AuthMode::None,
            AuthModeName::ApiKey => {
                require("AUTH_API_KEYS_FILE", options.api_keys_file.is_some());
                let file = options.api_keys_file.unwrap_or_default();
                AuthMode::ApiKey { file: reader.expand_home(&file).unwrap_or(file) }
            }
            AuthModeName::Jwt => {
                require("AUTH_JWT_ISSUER", !jwt.issuer.is_empty());
                require("AUTH_JWT_AUDIENCE", !jwt.audience.is_empty());
                AuthMode::Jwt(jwt)
            }
            AuthModeName::Proxy => {
                require("AUTH_PROXY_USER_HEADER", !proxy.user_header.is_empty());
                require("AUTH_PROXY_SOURCES", !proxy.sources.is_empty());
                if let Some(network) = proxy.sources.iter().find(|network| is_open(network))
                    && !proxy.allow_any_source
                {
                    reader.report_problem(format!(
                        "AUTH_PROXY_SOURCES contains {network}, so that everyone who reaches the service can name themselves \
                         any user; list the addresses of the proxy, or set AUTH_PROXY_ALLOW_ANY_SOURCE=true"
                    ));
                }
                AuthMode::Proxy(proxy)
            }
        };
        Self { mode, allow_insecure: options.allow_insecure, metrics: options.metrics }
    }

    /// The mode, as `AUTH_MODE` spells it.
    #[must_use]
    pub fn mode_name(&self) -> &'static str {
        match self.mode {
            AuthMode::None => "none",
            AuthMode::ApiKey { .. } => "api_key",
            AuthMode::Jwt(_) => "jwt",
            AuthMode::Proxy(_) => "proxy",
        }
    }
}

/// Reads an issuer: `https`, or `http` on this machine. It is kept as it is, since `iss` must be equal to it.
fn parse_issuer(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && url.host_str().is_some_and(is_loopback));
    (is_plain && is_safe).then(|| text.to_owned())
}

/// Reads names of algorithms with public keys. With a shared secret, everyone who can verify a token could make one.
fn parse_signature_algorithms(text: &str) -> Option<Vec<Algorithm>> {
    let names: BTreeSet<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let algorithms = names.into_iter().map(|name| (!name.starts_with("HS")).then(|| name.parse().ok()).flatten());
    algorithms.collect::<Option<Vec<Algorithm>>>().filter(|known| !known.is_empty())
}

/// Reads the name of a header that a proxy may set. Headers about the connection and the request do not name a user.
fn parse_identity_header(text: &str) -> Option<String> {
    let is_token = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = text.to_ascii_lowercase();
    let reserved = ["x-forwarded-for", "forwarded", "host", "authorization", "cookie", "origin"];
    (is_token && !reserved.contains(&name.as_str())).then_some(name)
}

fn parse_networks(text: &str) -> Option<Vec<IpNet>> {
    let networks = text.split(',').map(|network| {
        let network = network.trim();
        network.parse::<IpNet>().ok().or_else(|| network.parse::<std::net::IpAddr>().ok().map(IpNet::from))
    });
    networks.collect::<Option<Vec<_>>>().filter(|networks| !networks.is_empty())
}

/// Whether a network is larger than those for private use, 10.0.0.0/8 (RFC 1918) and fc00::/7 (RFC 4193).
fn is_open(network: &IpNet) -> bool {
    let smallest_prefix = match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    };
    network.prefix_len() < smallest_prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_larger_than_private_ones_are_open() {
        let open = |text: &str| NETWORKS.parse(text).unwrap().iter().any(is_open);
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/8,128.0.0.0/1", "2000::/3"] {
            assert!(open(text), "{text}");
        }
        assert!(!open("10.0.0.0/8, 100.64.0.0/10, fc00::/7, fe80::/10, 203.0.113.9, ::1"));
    }

    #[test]
    fn signature_algorithms_use_public_keys() {
        assert_eq!(SIGNATURE_ALGORITHMS.parse("RS256, ES256").unwrap().len(), 2);
        for text in ["", "none", "HS256", "RS256,HS512", "rs256", "ES512"] {
            assert_eq!(SIGNATURE_ALGORITHMS.parse(text), None, "{text}");
        }
    }

    #[test]
    fn issuer_is_reached_over_tls_or_on_this_machine() {
        for text in ["https://login.example.com/realms/a", "http://127.0.0.1:9/", "http://localhost:1"] {
            assert_eq!(ISSUER.parse(text).as_deref(), Some(text));
        }
        for text in ["http://login.example.com", "login.example.com", "https://h/?a=1", "https://u@h/", "ftp://h"] {
            assert_eq!(ISSUER.parse(text), None, "{text}");
        }
    }

    #[test]
    fn proxy_is_an_address_and_its_header_names_a_user() {
        assert_eq!(NETWORKS.parse("10.0.0.0/8, ::1").unwrap().len(), 2);
        for text in ["", "10.0.0.0/33", "proxy.example", "*"] {
            assert_eq!(NETWORKS.parse(text), None, "{text}");
        }
        assert_eq!(IDENTITY_HEADER.parse("X-Auth-Request-User").as_deref(), Some("x-auth-request-user"));
        for text in ["", "X-Forwarded-For", "Authorization", "a b", "a:b"] {
            assert_eq!(IDENTITY_HEADER.parse(text), None, "{text}");
        }
    }
}
