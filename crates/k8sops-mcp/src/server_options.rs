//! The list of MCP servers: those of the YAML, and the server `default` of the single-server variables.

use std::collections::BTreeMap;

use k8sops_core::printable_excerpt;
use k8sops_settings::{
    FieldShape, ItemVariable, RawValue, SettingOrigin, SettingScope, SettingsSection as _, ValueFormat,
    declaration::{custom, list, map, optional, or_empty, required},
    formats::{BOOLEAN, HEADER_VALUE, HTTP_URL, ITEM_NAME, SHELL_WORDS, TEXT},
    options, words,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    ToolFilter,
    server_config::{McpServerConfig, McpTransport, ServerScope, USER_TOKEN},
};

/// Name of the server that the single-server variables define.
const DEFAULT_SERVER: &str = "default";

/// How arguments are shown that cannot be counted.
const HIDDEN_ARGUMENTS: &str = "****";

/// A process and an endpoint are shared by all users.
const ONLY_IN_HEADERS: &str = "no ${user.token}: it can stand in the headers of an http server only";

/// The variables that define or change the server `default`.
pub const DEFAULT_SERVER_VARIABLES: &[ItemVariable] = &[
    default_server_variable("transport", "MCP_TRANSPORT", "http", "How the MCP server `default` is reached."),
    default_server_variable("url", "MCP_SERVER_URL", "http://127.0.0.1:8000/mcp", "Endpoint of the MCP server (http)."),
    default_server_variable("ssl_verify", "MCP_SSL_VERIFY", "true", "Whether its certificate is verified (http)."),
    default_server_variable("command", "MCP_SERVER_COMMAND", "npx", "Program that is the MCP server (stdio)."),
    ItemVariable {
        accepts: Some("words as in a shell (quotes are honored), or a JSON array of strings"),
        ..default_server_variable(
            "args",
            "MCP_SERVER_ARGS",
            "-y kubernetes-mcp-server@latest",
            "Arguments of that program (stdio).",
        )
    },
];

const fn default_server_variable(
    key: &'static str,
    variable: &'static str,
    example: &'static str,
    doc: &'static str,
) -> ItemVariable {
    ItemVariable { item: "mcp.servers.default", key, variable, accepts: None, example, doc }
}

options! {
    /// A server of `mcp.servers`.
    pub(crate) struct ServerFields at "" {
        /// Name of the server, unique: 1 to 32 characters of a-z 0-9 -.
        name: String = or_empty(TEXT),
        /// Name of the cluster that the server works on, as models and approval requests show it.
        cluster: Option<String> = optional(TEXT),
        /// Instructions for the model on the server's tools. They replace those that the server sends.
        instructions: Option<String> = optional(TEXT),
        /// Transport; it can be left out where only a URL or only a command is set.
        transport: Option<TransportName> = optional(TRANSPORT_NAME),
        /// Endpoint (http).
        url: Option<String> = optional(HTTP_URL),
        /// Headers of every request (http).
        headers: BTreeMap<String, SecretString> = map(HEADER_VALUE),
        /// Whether the certificate is verified (http).
        ssl_verify: bool = required(BOOLEAN, "true"),
        /// Program (stdio).
        command: Option<String> = optional(TEXT),
        /// Arguments of the program (stdio).
        args: Vec<String> = custom(TEXT, FieldShape::Values, read_args),
        /// Environment of the program, besides what it inherits: PATH, HOME, KUBECONFIG, proxies, certificates and the
        /// logins of clouds (stdio).
        env: BTreeMap<String, SecretString> = map(ENVIRONMENT_VALUE),
        /// Whose calls a process serves: of all (shared), of one user or of one session (stdio). Calls that change the state
        /// of a shared process, such as its current context, are rejected.
        scope: ServerScope = required(SERVER_SCOPE, "shared"),
        /// Names of other variables of our environment that it inherits (stdio).
        pass_env: Vec<String> = list(TEXT),
        /// Which of its tools are used.
        tools: ToolFilter = custom(TEXT, FieldShape::Section(&ToolFilterFields::SECTION), read_tool_filter),
    }
}

options! {
    /// The tools of a server that are used, by their names on the server, with `*` for any characters and `?` for one.
    struct ToolFilterFields at "" {
        /// Tools that are used; absent: all.
        include: Vec<String> = list(TEXT),
        /// Tools that are not used.
        exclude: Vec<String> = list(TEXT),
    }
}

fn read_tool_filter(scope: &mut SettingScope<'_>, key: &'static str) -> ToolFilter {
    let Some(ToolFilterFields { include, exclude }) = scope.read_nested(key) else { return ToolFilter::default() };
    ToolFilter { include, exclude }
}

const SERVER_SCOPE: ValueFormat<ServerScope> = words! {
    "shared" => ServerScope::Shared,
    "user" => ServerScope::User,
    "session" => ServerScope::Session,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum TransportName {
    Http,
    Stdio,
}

const TRANSPORT_NAME: ValueFormat<TransportName> =
    words! { "http" => TransportName::Http, "stdio" => TransportName::Stdio };

const ENVIRONMENT_VALUE: ValueFormat<SecretString> =
    ValueFormat::described("a text without NUL", |text| (!text.contains('\0')).then(|| text.to_owned().into()))
        .secret();

/// Reads the servers of the strongest layer that lists any, and the variables of the server `default` over them.
pub(crate) fn read_servers(scope: &mut SettingScope<'_>, key: &'static str) -> Vec<McpServerConfig> {
    let mut items: Vec<_> = scope.find_items(key).into_iter().map(Some).collect();
    let mut names: Vec<String> = Vec::new();
    for item in items.iter().flatten() {
        let name = item.text("name").unwrap_or_default();
        let allowed = if ITEM_NAME.parse(&name).is_none() {
            Some(ITEM_NAME.kind().to_string())
        } else {
            names.contains(&name).then(|| "a name that no other server has".to_owned())
        };
        if let Some(allowed) = allowed {
            scope.report_invalid(&format!("{key}[].name"), &printable_excerpt(&name), &item.origin(), &allowed);
        }
        names.push(name);
    }
    if !names.iter().any(|name| name == DEFAULT_SERVER) && is_default_server_set(scope) {
        items.push(None);
        names.push(DEFAULT_SERVER.to_owned());
    }
    let servers = names.into_iter().zip(items).map(|(name, item)| {
        let path = format!("{}.{name}", scope.path_of(key));
        scope.read_item_at(&path, item, |scope| read_server(scope, name))
    });
    servers.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// Whether the variables define a server. Those that are set without defining one are warned of.
fn is_default_server_set(scope: &mut SettingScope<'_>) -> bool {
    let set = DEFAULT_SERVER_VARIABLES.iter().filter_map(|variable| {
        let value = scope.reader().read_variable(variable.variable)?;
        Some((variable.key, value))
    });
    let set: Vec<(&str, RawValue)> = set.collect();
    if set.iter().any(|(key, _)| ["transport", "url", "command"].contains(key)) {
        return true;
    }
    for (_, RawValue { origin, .. }) in set {
        scope.reader().report_warning(format!(
            "{origin} has no effect: it is about the MCP server `{DEFAULT_SERVER}`, which MCP_SERVER_URL or \
             MCP_SERVER_COMMAND defines"
        ));
    }
    false
}

/// Reads one server; `None` if something of it is wrong.
fn read_server(scope: &mut SettingScope<'_>, name: String) -> Option<McpServerConfig> {
    let problems_before = scope.reader().problem_count();
    let fields = ServerFields::read_from(scope);
    if scope.reader().problem_count() > problems_before {
        return None;
    }
    let cluster = fields.cluster.clone();
    let instructions = fields.instructions.clone().filter(|text| !text.trim().is_empty());
    let transport = match (fields.transport, fields.url.is_some(), fields.command.is_some()) {
        (Some(transport), ..) => transport,
        (None, true, true) => {
            let hint = "it has a URL and a command; say http or stdio";
            report_missing(scope, "transport", "MCP_TRANSPORT", hint);
            return None;
        }
        (None, true, false) => TransportName::Http,
        (None, false, _) => TransportName::Stdio,
    };
    let tools = fields.tools.clone();
    let server_scope = fields.scope;
    if transport == TransportName::Http && server_scope != ServerScope::Shared {
        let origin = scope.origin_of("scope");
        scope.report_invalid(
            "scope",
            "user or session",
            &origin,
            "shared: only a stdio server can have several processes",
        );
    }
    let transport = match transport {
        TransportName::Http => read_http(scope, fields)?,
        TransportName::Stdio => read_stdio(scope, fields)?,
    };
    Some(McpServerConfig { name, cluster, instructions, transport, scope: server_scope, tools })
}

fn read_http(scope: &mut SettingScope<'_>, fields: ServerFields) -> Option<McpTransport> {
    let Some(url) = fields.url else {
        report_missing(scope, "url", "MCP_SERVER_URL", "http needs it, like http://127.0.0.1:8000/mcp");
        return None;
    };
    if url.contains(USER_TOKEN) {
        report_user_token(scope, "url");
    }
    for name in fields.headers.keys() {
        if http::HeaderName::try_from(name.as_str()).is_err() {
            let origin = scope.origin();
            scope.report_invalid("headers", &printable_excerpt(name), &origin, "names of HTTP headers");
        }
    }
    Some(McpTransport::Http { url, headers: fields.headers, ssl_verify: fields.ssl_verify })
}

fn read_stdio(scope: &mut SettingScope<'_>, fields: ServerFields) -> Option<McpTransport> {
    let Some(command) = fields.command else {
        report_missing(scope, "command", "MCP_SERVER_COMMAND", "stdio needs it, like npx");
        return None;
    };
    if fields.args.iter().any(|arg| arg.contains(USER_TOKEN)) {
        report_user_token(scope, "args");
    }
    for (name, value) in &fields.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            let origin = scope.origin();
            scope.report_invalid("env", &printable_excerpt(name), &origin, "names without `=`");
        }
        if value.expose_secret().contains(USER_TOKEN) {
            report_user_token(scope, &format!("env.{name}"));
        }
    }
    for name in &fields.pass_env {
        if name.is_empty() || name.contains(['=', '\0']) {
            let origin = scope.origin();
            scope.report_invalid("pass_env", &printable_excerpt(name), &origin, "names of variables");
        }
    }
    Some(McpTransport::Stdio { command, args: fields.args, env: fields.env, pass_env: fields.pass_env })
}

/// Reads arguments: a list in the YAML, words in the variable. Arguments may contain a token, so only their number is shown,
/// and nothing of a text that is not accepted.
fn read_args(scope: &mut SettingScope<'_>, key: &'static str) -> Vec<String> {
    if let Some(RawValue { text, origin }) = scope.find_variable(key) {
        let Some(args) = SHELL_WORDS.parse(&text) else {
            scope.report_invalid(key, HIDDEN_ARGUMENTS, &origin, &SHELL_WORDS.kind().to_string());
            return Vec::new();
        };
        scope.record_effective(key, &format!("{} words", args.len()), &origin);
        return args;
    }
    let items = scope.find_items(key);
    if let Some(first) = items.first() {
        scope.record_effective(key, &format!("{} words", items.len()), &first.origin());
    }
    items.iter().map(|item| item.scalar().to_owned()).collect()
}

fn report_user_token(scope: &mut SettingScope<'_>, key: &str) {
    let origin = scope.origin_of(key);
    scope.report_invalid(key, USER_TOKEN, &origin, ONLY_IN_HEADERS);
}

/// Reports a key that is not set: by its variable where the server is not in the YAML.
fn report_missing(scope: &mut SettingScope<'_>, key: &str, variable: &str, hint: &str) {
    let problem = match scope.origin() {
        SettingOrigin::Yaml { path, line } => {
            format!("{} line {line}: {} is not set; {hint}", path.display(), scope.path_of(key))
        }
        _ => format!("{variable} is not set; {hint}"),
    };
    scope.reader().report_problem(problem);
}
