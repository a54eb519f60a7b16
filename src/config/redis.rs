//! Where Redis is.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::{
    Backend, RedisSettings, RedisTopology,
    load::{Loader, secret},
    parse,
};

impl Loader {
    /// The settings under `memory.redis`; checked together only when that is the backend.
    pub(super) fn redis(&mut self, backend: Backend) -> RedisSettings {
        let urls = self.optional_masked("memory.redis.url", mask_urls, urls).unwrap_or_default();
        let url_origin = self.last_origin();
        let topology = self.required("memory.redis.topology", |t| match t {
            "single" => Some(RedisTopology::Single),
            "cluster" => Some(RedisTopology::Cluster),
            "sentinel" => Some(RedisTopology::Sentinel),
            _ => None,
        });
        let settings = RedisSettings {
            topology,
            sentinel_master: self.required("memory.redis.sentinel_master", parse::name),
            ca_file: self.optional("memory.redis.ca_file", |t| Some(PathBuf::from(t))),
            prefix: self.required("memory.redis.prefix", parse::name),
            session_ttl: self.optional("memory.redis.session_ttl", parse::long_duration),
            urls: urls.iter().map(|url| secret(url)).collect(),
        };
        if backend == Backend::Redis && topology == RedisTopology::Single && urls.len() > 1 {
            let shown: Vec<String> = urls.iter().map(|url| parse::mask_url(url)).collect();
            let allowed = "one URL, or several with REDIS_TOPOLOGY=cluster or sentinel";
            self.wrong("memory.redis.url", &shown.join(","), &url_origin, allowed);
        }
        settings
    }
}

impl RedisSettings {
    /// Where it is, for people: without passwords.
    #[must_use]
    pub fn shown(&self) -> String {
        self.urls.iter().map(|url| parse::mask_url(url.expose_secret())).collect::<Vec<_>>().join(",")
    }
}

/// One or more `redis://` or `rediss://` URLs with commas between.
fn urls(text: &str) -> Option<Vec<String>> {
    let parts = text.split(',').map(|url| {
        let url = url.trim();
        let parsed = reqwest::Url::parse(url).ok()?;
        let usable = matches!(parsed.scheme(), "redis" | "rediss") && parsed.host_str().is_some_and(|h| !h.is_empty());
        usable.then(|| url.to_owned())
    });
    parts.collect()
}

fn mask_urls(text: &str) -> String {
    text.split(',').map(|url| parse::mask_url(url.trim())).collect::<Vec<_>>().join(",")
}
