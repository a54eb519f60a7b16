//! The MCP servers' part of loading: the list of the YAML, and the server `default` of the single-server variables.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{
    McpServerConfig, McpTransport, USER_TOKEN,
    load::{Found, Layer, Loader, Origin, secret},
    parse,
    providers::{NAME, is_name},
    settings::{BOOL, TRANSPORT, URL, WORDS},
    yaml::Node,
};

/// The name of the server that the single-server variables define.
const DEFAULT: &str = "default";

/// A process and an address are the same for all users.
const ONLY_IN_HEADERS: &str = "no ${user.token}: it can stand in the headers of an http server only";

/// What is known of one server before it is checked.
#[derive(Default)]
struct Draft {
    name: String,
    fields: BTreeMap<&'static str, Found>,
    args: Option<(Vec<String>, Origin)>,
    env: BTreeMap<String, (String, Origin)>,
    headers: BTreeMap<String, (String, Origin)>,
    /// Where it is defined, for what is missing.
    origin: Option<Origin>,
}

impl Loader {
    /// The servers of the strongest layer that lists any, and over them the variables.
    pub(super) fn servers(&mut self) -> Vec<McpServerConfig> {
        let mut drafts: Vec<Draft> = Vec::new();
        let strongest = self.layers.iter().rev().find_map(|layer| {
            let servers = layer.root.get("mcp")?.get("servers")?.items();
            (!servers.is_empty()).then_some((layer, servers))
        });
        if let Some((layer, servers)) = strongest {
            drafts.extend(servers.iter().map(|node| draft(layer, node)));
        }
        let mut seen: Vec<String> = Vec::new();
        for draft in &drafts {
            let origin = draft.origin.clone().unwrap_or(Origin::Default);
            if !is_name(&draft.name) {
                self.wrong("mcp.servers[].name", &parse::shown(&draft.name), &origin, NAME);
            } else if seen.contains(&draft.name) {
                self.wrong("mcp.servers[].name", &draft.name, &origin, "a name that no other server has");
            }
            seen.push(draft.name.clone());
        }
        self.variables_over(&mut drafts);
        drafts.into_iter().filter_map(|draft| self.server(draft)).collect()
    }

    /// The single-server variables make a server `default`, or change the fields of the one that the YAML has.
    fn variables_over(&mut self, drafts: &mut Vec<Draft>) {
        const FIELDS: [(&str, &str); 4] = [
            ("transport", "MCP_TRANSPORT"),
            ("url", "MCP_SERVER_URL"),
            ("ssl_verify", "MCP_SSL_VERIFY"),
            ("command", "MCP_SERVER_COMMAND"),
        ];
        let fields: Vec<(&'static str, Found)> =
            FIELDS.into_iter().filter_map(|(key, name)| Some((key, self.variable(name)?))).collect();
        let args = self.variable("MCP_SERVER_ARGS");
        let defines = fields.iter().any(|(key, _)| *key != "ssl_verify");
        if !drafts.iter().any(|d| d.name == DEFAULT) {
            if !defines {
                for found in fields.into_iter().map(|(_, found)| found).chain(args) {
                    self.warnings.push(format!(
                        "{} has no effect: it is about the MCP server `{DEFAULT}`, which MCP_SERVER_URL or MCP_SERVER_COMMAND defines",
                        found.origin
                    ));
                }
                return;
            }
            drafts.push(Draft { name: DEFAULT.to_owned(), ..Draft::default() });
        }
        let Some(draft) = drafts.iter_mut().find(|d| d.name == DEFAULT) else { return };
        draft.fields.extend(fields);
        if let Some(Found { text, origin }) = args {
            match parse::words(&text) {
                Some(words) => draft.args = Some((words, origin)),
                None => self.wrong("mcp.servers.default.args", &parse::shown(&text), &origin, WORDS),
            }
        }
    }

    fn server(&mut self, mut draft: Draft) -> Option<McpServerConfig> {
        let path = |key: &str| format!("mcp.servers.{}.{key}", draft.name);
        let has = |key: &str| draft.fields.contains_key(key);
        let http = match draft.fields.get("transport") {
            Some(found) => match found.text.as_str() {
                "http" => true,
                "stdio" => false,
                other => {
                    self.wrong(&path("transport"), &parse::shown(other), &found.origin.clone(), TRANSPORT);
                    return None;
                }
            },
            None if has("url") && has("command") => {
                self.missing(&draft, "transport", "MCP_TRANSPORT", "it has a URL and a command; say http or stdio");
                return None;
            }
            None => has("url"),
        };
        let transport = if http {
            let Some(found) = draft.fields.remove("url") else {
                self.missing(&draft, "url", "MCP_SERVER_URL", "http needs it, like http://127.0.0.1:8000/mcp");
                return None;
            };
            let shown = parse::mask_url(&found.text);
            let Some(url) = parse::url(&found.text) else {
                self.wrong(&path("url"), &shown, &found.origin, URL);
                return None;
            };
            self.in_force(path("url"), &shown, &found.origin);
            let ssl_verify = match draft.fields.get("ssl_verify") {
                None => true,
                Some(found) => {
                    let parsed = parse::boolean(&found.text);
                    if parsed.is_none() {
                        self.wrong(&path("ssl_verify"), &parse::shown(&found.text), &found.origin, BOOL);
                    }
                    self.in_force(path("ssl_verify"), &parse::shown(&found.text), &found.origin);
                    parsed.unwrap_or(true)
                }
            };
            if found.text.contains(USER_TOKEN) {
                self.wrong(&path("url"), &shown, &found.origin, ONLY_IN_HEADERS);
            }
            McpTransport::Http { headers: self.headers(&draft), url, ssl_verify }
        } else {
            let Some(found) = draft.fields.remove("command") else {
                self.missing(&draft, "command", "MCP_SERVER_COMMAND", "stdio needs it, like npx");
                return None;
            };
            self.in_force(path("command"), &found.text, &found.origin);
            let args = draft.args.take().map_or_else(Vec::new, |(args, origin)| {
                // Arguments may carry a token; how many there are is enough to recognise them.
                self.in_force(path("args"), &format!("{} words", args.len()), &origin);
                if args.iter().any(|arg| arg.contains(USER_TOKEN)) {
                    self.wrong(&path("args"), USER_TOKEN, &origin, ONLY_IN_HEADERS);
                }
                args
            });
            let mut env = BTreeMap::new();
            for (name, (value, origin)) in &draft.env {
                if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                    self.wrong(&path("env"), &parse::shown(name), origin, "names without `=`");
                }
                if value.contains(USER_TOKEN) {
                    self.wrong(&path(&format!("env.{name}")), USER_TOKEN, origin, ONLY_IN_HEADERS);
                }
                self.in_force(path(&format!("env.{name}")), &parse::mask(value), origin);
                env.insert(name.clone(), secret(value));
            }
            McpTransport::Stdio { command: found.text, args, env }
        };
        Some(McpServerConfig { name: draft.name, transport })
    }

    fn headers(&mut self, draft: &Draft) -> BTreeMap<String, SecretString> {
        let mut headers = BTreeMap::new();
        for (name, (value, origin)) in &draft.headers {
            let path = format!("mcp.servers.{}.headers.{name}", draft.name);
            if http::HeaderName::try_from(name.as_str()).is_err()
                || http::HeaderValue::try_from(value.as_str()).is_err()
            {
                self.wrong(&path, &parse::mask(value), origin, "the name and the value of an HTTP header, one line");
                continue;
            }
            self.in_force(path, &parse::mask(value), origin);
            headers.insert(name.clone(), secret(value));
        }
        headers
    }

    fn missing(&mut self, draft: &Draft, key: &str, variable: &str, why: &str) {
        self.problems.push(match &draft.origin {
            Some(Origin::Yaml { path, line }) => {
                format!("{} line {line}: mcp.servers.{}.{key} is not set; {why}", path.display(), draft.name)
            }
            _ => format!("{variable} is not set; {why}"),
        });
    }
}

fn draft(layer: &Layer, node: &Node) -> Draft {
    let text = |node: &Node| layer.found(node).map(|found| (found.text, found.origin));
    let named = |key: &str| {
        let entries = node.get(key).map(Node::entries).unwrap_or_default();
        entries.iter().map(|(k, v)| (k.clone(), text(v).unwrap_or_else(|| (String::new(), layer.origin(v))))).collect()
    };
    let args = node.get("args").map(|list| {
        // An empty argument is an argument, so this does not go by `text`, which skips what is empty.
        let word = |node: &Node| match &node.value {
            super::yaml::Value::Leaf(Some(text)) => text.clone(),
            _ => String::new(),
        };
        (list.items().iter().map(word).collect(), layer.origin(list))
    });
    Draft {
        name: node.get("name").and_then(Node::text).unwrap_or_default().to_owned(),
        fields: ["transport", "url", "ssl_verify", "command"]
            .into_iter()
            .filter_map(|key| Some((key, layer.found(node.get(key)?)?)))
            .collect(),
        args,
        env: named("env"),
        headers: named("headers"),
        origin: Some(layer.origin(node)),
    }
}
