//! The catalog's part of loading: providers and their models, merged field by field over the layers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use secrecy::SecretString;

use k8sops_core::UsdAmount;

use super::{
    LongPromptPrices, ModelConfig, ModelFeature, ModelPrices, ProviderConfig, ProviderProtocol,
    load::{Found, Layer, Loader, Origin, secret},
    parse,
    settings::{BOOL, DOLLARS, DURATION, KEEP_ALIVE, KEY, POSITIVE, SETTINGS, URL},
    yaml::Node,
};

/// See [`ProviderConfig::max_context`].
const DEFAULT_CONTEXT: u32 = 32_768;

impl Loader {
    /// All providers; a later layer changes single fields and adds or replaces single models.
    pub(super) fn providers(&mut self) -> BTreeMap<String, ProviderConfig> {
        let mut ids: Vec<(String, Origin)> = Vec::new();
        for layer in &self.layers {
            for (id, node) in layer.root.get("providers").map(Node::entries).unwrap_or_default() {
                if !ids.iter().any(|(known, _)| known == id) {
                    ids.push((id.clone(), layer.origin(node)));
                }
            }
        }
        let mut providers = BTreeMap::new();
        for (id, origin) in ids {
            if is_name(&id) {
                let provider = self.provider(&id, &origin);
                providers.insert(id, provider);
            } else {
                self.wrong("the name of a provider", &parse::shown(&id), &origin, NAME);
            }
        }
        providers
    }

    fn provider(&mut self, id: &str, origin: &Origin) -> ProviderConfig {
        let name = self.provider_field(id, "name").map_or_else(|| id.to_owned(), |f| f.text);
        let protocol =
            self.parsed(id, "protocol", ProviderProtocol::WORDS, ProviderProtocol::Openai, ProviderProtocol::parse);
        let key_variable = self
            .provider_field(id, "key_variable")
            .map_or_else(|| format!("{}_API_KEY", id.to_ascii_uppercase().replace('-', "_")), |f| f.text);
        let base = self.provider_field(id, "base_url");
        if base.is_none() {
            self.wrong(&format!("providers.{id}.base_url"), "", origin, URL);
        }
        let base_is_default = base.as_ref().is_some_and(|f| f.origin == Origin::Default);
        let base_url = self.parsed(id, "base_url", URL, String::new(), parse::url);
        // A server of one's own behind a known provider's protocol seldom asks for a key.
        let key_optional = self.parsed(id, "key_optional", BOOL, !base_is_default, parse::boolean);
        let api_key = self.variable(&key_variable).or_else(|| self.provider_field(id, "api_key"));
        let path = format!("providers.{id}.api_key");
        let api_key = match api_key {
            Some(found) if found.text.bytes().all(|b| b.is_ascii_graphic()) => {
                self.in_force(path, &parse::mask(&found.text), &found.origin);
                Some(secret(&found.text))
            }
            Some(found) => {
                self.wrong(&path, &parse::mask(&found.text), &found.origin, KEY);
                None
            }
            None => {
                self.in_force(path, "", &Origin::Default);
                None
            }
        };
        ProviderConfig {
            name,
            protocol,
            base_url,
            api_key,
            key_optional,
            key_variable,
            connect_timeout: self.parsed(id, "connect_timeout", DURATION, Duration::from_secs(10), parse::duration),
            read_timeout: self.parsed(id, "read_timeout", DURATION, Duration::from_mins(2), parse::duration),
            headers: self.provider_headers(id),
            max_context: self.parsed(id, "max_context", POSITIVE, DEFAULT_CONTEXT, parse::positive),
            keep_alive: self.parsed(id, "keep_alive", KEEP_ALIVE, None, |t| parse::keep_alive(t).map(Some)),
            models: self.models(id),
        }
    }

    /// A field of a provider from the strongest layer that has it; a variable of the table is the strongest.
    fn provider_field(&self, id: &str, key: &str) -> Option<Found> {
        let path = format!("providers.{id}.{key}");
        let variable = SETTINGS.iter().find(|s| s.path == path).and_then(|s| self.variable(s.variable));
        variable.or_else(|| {
            let of = |layer: &super::load::Layer| layer.found(layer.root.get("providers")?.get(id)?.get(key)?);
            self.layers.iter().rev().find_map(of)
        })
    }

    fn parsed<T>(&mut self, id: &str, key: &str, allowed: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        let path = format!("providers.{id}.{key}");
        let Some(Found { text, origin }) = self.provider_field(id, key) else { return default };
        let shown = if key == "base_url" { parse::mask_url(&text) } else { parse::shown(&text) };
        if let Some(value) = parse(&text) {
            self.in_force(path, &shown, &origin);
            value
        } else {
            self.wrong(&path, &shown, &origin, allowed);
            default
        }
    }

    /// Headers of the strongest layer that has any.
    fn provider_headers(&mut self, id: &str) -> BTreeMap<String, SecretString> {
        let strongest = self.layers.iter().rev().find_map(|layer| {
            let node = layer.root.get("providers")?.get(id)?.get("headers")?;
            let entries = node.entries().iter().filter_map(|(name, node)| Some((name.clone(), layer.found(node)?)));
            Some(entries.collect::<Vec<_>>())
        });
        let mut headers = BTreeMap::new();
        for (name, found) in strongest.unwrap_or_default() {
            let path = format!("providers.{id}.headers.{name}");
            let fits = http::HeaderName::try_from(&name).is_ok() && http::HeaderValue::try_from(&found.text).is_ok();
            if fits {
                self.in_force(path, &parse::mask(&found.text), &found.origin);
                headers.insert(name, secret(&found.text));
            } else {
                self.wrong(&path, &parse::mask(&found.text), &found.origin, "the name and the value of an HTTP header");
            }
        }
        headers
    }

    fn models(&mut self, id: &str) -> Vec<ModelConfig> {
        let mut models: Vec<ModelConfig> = Vec::new();
        let mut wrong = Vec::new();
        for layer in &self.layers {
            let Some(list) = layer.root.get("providers").and_then(|n| n.get(id)?.get("models")) else { continue };
            for node in list.items() {
                let text = |key: &str| node.get(key).and_then(|n| layer.found(n));
                let mut tokens = |key: &str| {
                    let found = text(key)?;
                    let parsed = parse::positive(&found.text);
                    if parsed.is_none() {
                        wrong.push((key.to_owned(), parse::shown(&found.text), found.origin, POSITIVE));
                    }
                    parsed
                };
                let (context_window, max_output_tokens) = (tokens("context_window"), tokens("max_output_tokens"));
                let Some(model) = text("id") else {
                    wrong.push(("id".to_owned(), String::new(), layer.origin(node), "the id that the provider knows"));
                    continue;
                };
                let features = features(layer, node, &mut wrong);
                let prices = prices(layer, node, &mut wrong);
                let model = ModelConfig {
                    features,
                    prices,
                    name: text("name").map_or_else(|| model.text.clone(), |f| f.text),
                    description: text("description").map(|f| f.text).unwrap_or_default(),
                    id: model.text,
                    context_window,
                    max_output_tokens,
                };
                match models.iter_mut().find(|m| m.id == model.id) {
                    Some(known) => *known = model,
                    None => models.push(model),
                }
            }
        }
        for (key, shown, origin, allowed) in wrong {
            self.wrong(&format!("providers.{id}.models[].{key}"), &shown, &origin, allowed);
        }
        models
    }

    /// Notes the models in force, once all that name one have been heard.
    pub(super) fn show_models(&mut self, providers: &BTreeMap<String, ProviderConfig>) {
        for (id, provider) in providers {
            for model in &provider.models {
                let known = self.layers.iter().rev().find_map(|layer| {
                    let models = layer.root.get("providers")?.get(id)?.get("models")?.items();
                    let node = models.iter().find(|node| node.get("id").and_then(|n| n.text()) == Some(&model.id))?;
                    Some(layer.origin(node))
                });
                let origin = known.unwrap_or_else(|| {
                    let named = self.origins.iter().find(|o| o.path == "llm.model");
                    named.map_or(Origin::Default, |o| o.origin.clone())
                });
                self.in_force(format!("providers.{id}.models[]"), &model.id, &origin);
            }
        }
    }
}

/// What was wrong: the field, its value as it may be shown, where it is, and what is allowed.
type Wrong = (String, String, Origin, &'static str);

fn features(layer: &Layer, node: &Node, wrong: &mut Vec<Wrong>) -> BTreeSet<ModelFeature> {
    let mut features = BTreeSet::new();
    for found in node.get("features").map(Node::items).unwrap_or_default().iter().filter_map(|n| layer.found(n)) {
        match ModelFeature::parse(&found.text) {
            Some(feature) => drop(features.insert(feature)),
            None => wrong.push(("features".to_owned(), parse::shown(&found.text), found.origin, ModelFeature::WORDS)),
        }
    }
    features
}

fn prices(layer: &Layer, node: &Node, wrong: &mut Vec<Wrong>) -> Option<ModelPrices> {
    let node = node.get("prices")?;
    let [input, output, cached_input, cache_write] = rates(layer, node, "prices", wrong)?;
    let long = node.get("long").and_then(|node| {
        let found = node.get("above").and_then(|n| layer.found(n));
        let Some(above) = found.as_ref().and_then(|found| parse::positive(&found.text)) else {
            let shown = found.map(|found| parse::shown(&found.text)).unwrap_or_default();
            wrong.push(("prices.long.above".to_owned(), shown, layer.origin(node), POSITIVE));
            return None;
        };
        let [input, output, cached_input, cache_write] = rates(layer, node, "prices.long", wrong)?;
        Some(LongPromptPrices { above, input, output, cached_input, cache_write })
    });
    Some(ModelPrices { input, output, cached_input, cache_write, long })
}

/// Input, output, cached input, cache write.
fn rates(layer: &Layer, node: &Node, path: &str, wrong: &mut Vec<Wrong>) -> Option<[UsdAmount; 4]> {
    let [input, output, cached, write] = ["input", "output", "cached_input", "cache_write"].map(|key| {
        let found = layer.found(node.get(key)?)?;
        let parsed = parse::dollars(&found.text);
        if parsed.is_none() {
            wrong.push((format!("{path}.{key}"), parse::shown(&found.text), found.origin, DOLLARS));
        }
        parsed
    });
    let (Some(input), Some(output)) = (input, output) else {
        wrong.push((path.to_owned(), String::new(), layer.origin(node), "at least `input` and `output`"));
        return None;
    };
    Some([input, output, cached.unwrap_or(input), write.unwrap_or(input)])
}

/// What the names of providers and MCP servers look like.
pub(super) const NAME: &str = "1 to 32 characters of a-z 0-9 -";

/// Whether a text is such a name.
pub(super) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
