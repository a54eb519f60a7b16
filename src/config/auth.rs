//! Who may call: how callers are known, and what is asked of that.

use std::{collections::BTreeSet, path::PathBuf};

use ipnet::IpNet;
use jsonwebtoken::Algorithm;

use crate::auth::{AuthConfig, AuthMode, JwtConfig, MetricsAccess, ProxyConfig};

use super::{
    load::{Loader, expand_home},
    parse,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    None,
    ApiKey,
    Jwt,
    Proxy,
}

impl Loader {
    /// The settings under `auth`; checked together only for the mode that is on.
    pub(super) fn auth(&mut self, home: Option<&str>) -> AuthConfig {
        let word = self.required("auth.mode", |t| match t {
            "none" => Some(Word::None),
            "api_key" => Some(Word::ApiKey),
            "jwt" => Some(Word::Jwt),
            "proxy" => Some(Word::Proxy),
            _ => None,
        });
        let allow_insecure = self.required("auth.allow_insecure", parse::boolean);
        let metrics = self.required("auth.metrics", |t| match t {
            "open" => Some(MetricsAccess::Open),
            "admin" => Some(MetricsAccess::Admin),
            _ => None,
        });
        let file = self.optional("auth.api_keys_file", |t| Some(PathBuf::from(t)));
        let issuer = self.optional("auth.jwt.issuer", issuer);
        let audience = self.optional("auth.jwt.audience", parse::key);
        let jwt = JwtConfig {
            issuer: issuer.clone().unwrap_or_default(),
            audience: audience.clone().unwrap_or_default(),
            algorithms: self.required("auth.jwt.algorithms", algorithms),
            clock_skew: self.required("auth.jwt.clock_skew", parse::duration),
            user_claim: self.required("auth.jwt.user_claim", parse::key),
            roles_claim: self.optional("auth.jwt.roles_claim", parse::key),
        };
        let user_header = self.optional("auth.proxy.user_header", header);
        let roles_header = self.optional("auth.proxy.roles_header", header);
        let sources = self.optional("auth.proxy.sources", sources);
        let mut missing = |variable: &str, absent: bool| {
            if absent {
                self.problems.push(format!("{variable} is not set, and AUTH_MODE needs it"));
            }
        };
        let mode = match word {
            Word::None => AuthMode::None,
            Word::ApiKey => {
                missing("AUTH_API_KEYS_FILE", file.is_none());
                let file = file.unwrap_or_default();
                let path = expand_home(&file.to_string_lossy(), home);
                AuthMode::ApiKey { file: path.unwrap_or(file) }
            }
            Word::Jwt => {
                missing("AUTH_JWT_ISSUER", issuer.is_none());
                missing("AUTH_JWT_AUDIENCE", audience.is_none());
                AuthMode::Jwt(jwt)
            }
            Word::Proxy => {
                missing("AUTH_PROXY_USER_HEADER", user_header.is_none());
                missing("AUTH_PROXY_SOURCES", sources.is_none());
                AuthMode::Proxy(ProxyConfig {
                    user_header: user_header.unwrap_or_default(),
                    roles_header,
                    sources: sources.unwrap_or_default(),
                })
            }
        };
        AuthConfig { mode, allow_insecure, metrics }
    }
}

/// An issuer: `https`, or `http` on this machine; as it is, since `iss` is compared to the letter.
fn issuer(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && url.host_str().is_some_and(parse::is_loopback));
    (plain && safe).then(|| text.to_owned())
}

/// Names of signatures by public keys. A shared secret would let everybody who can check a token make one.
fn algorithms(text: &str) -> Option<Vec<Algorithm>> {
    let names: BTreeSet<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let known = names.into_iter().map(|name| (!name.starts_with("HS")).then(|| name.parse().ok()).flatten());
    known.collect::<Option<Vec<Algorithm>>>().filter(|known| !known.is_empty())
}

/// The name of a header that a proxy may set. `X-Forwarded-For` and what is about the connection name nobody.
fn header(text: &str) -> Option<String> {
    let token = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = text.to_ascii_lowercase();
    let about_else = ["x-forwarded-for", "forwarded", "host", "authorization", "cookie", "origin"];
    (token && !about_else.contains(&name.as_str())).then_some(name)
}

/// Addresses and networks with commas between.
fn sources(text: &str) -> Option<Vec<IpNet>> {
    let nets = text.split(',').map(|net| {
        let net = net.trim();
        net.parse::<IpNet>().ok().or_else(|| net.parse::<std::net::IpAddr>().ok().map(IpNet::from))
    });
    nets.collect::<Option<Vec<_>>>().filter(|nets| !nets.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_by_a_public_key_or_refused() {
        assert_eq!(algorithms("RS256, ES256").unwrap().len(), 2);
        for bad in ["", "none", "HS256", "RS256,HS512", "rs256", "ES512"] {
            assert_eq!(algorithms(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_issuer_is_reached_over_tls_or_on_this_machine() {
        for good in ["https://login.example.com/realms/a", "http://127.0.0.1:9/", "http://localhost:1"] {
            assert_eq!(issuer(good).as_deref(), Some(good));
        }
        for bad in ["http://login.example.com", "login.example.com", "https://h/?a=1", "https://u@h/", "ftp://h"] {
            assert_eq!(issuer(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_and_its_header_names_a_user() {
        assert_eq!(sources("10.0.0.0/8, ::1").unwrap().len(), 2);
        for bad in ["", "10.0.0.0/33", "proxy.example", "*"] {
            assert_eq!(sources(bad), None, "{bad}");
        }
        assert_eq!(header("X-Auth-Request-User").as_deref(), Some("x-auth-request-user"));
        for bad in ["", "X-Forwarded-For", "Authorization", "a b", "a:b"] {
            assert_eq!(header(bad), None, "{bad}");
        }
    }
}
