//! A small program's settings, read from all sources and rendered.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    FieldShape, ItemVariable, SettingOrigin, SettingReader, SettingScope, SettingSources, SettingsCatalog,
    SettingsSection as _, StandaloneVariable, ValueFormat,
    declaration::{custom, list, map, optional, or_empty, required},
    formats::{API_KEY, BOOLEAN, DURATION, HEADER_VALUE, HTTP_URL, TEXT, whole_number_in},
    options,
    reader::ReadReport,
    render::{render_effective, render_env_example, render_json_schema, render_reference, render_yaml_defaults},
    words,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreKind {
    Memory,
    Redis,
}

const STORE_KIND: ValueFormat<StoreKind> = words! { "memory" => StoreKind::Memory, "redis" => StoreKind::Redis };

options! {
    /// Where the service listens.
    #[derive(Debug)]
    pub(crate) struct ServerOptions at "server" {
        /// Port to listen on; 0 takes a free one.
        port: u16 = required(whole_number_in(0, 65535), "8080").variable("K8SOPS_PORT"),
        /// Longest time that a shutdown takes.
        ///
        /// Longer than a call may take.
        shutdown_timeout: Duration = required(DURATION, "75s").variable("K8SOPS_SHUTDOWN_TIMEOUT").live(),
        /// Text that is shown at the start.
        banner: String = or_empty(TEXT).variable("K8SOPS_BANNER").example("two words"),
    }
}

options! {
    /// Where sessions are kept.
    pub(crate) struct StoreOptions at "store" {
        /// Kind of store.
        kind: StoreKind = required(STORE_KIND, "memory").variable("STORE_KIND"),
    }
}

options! {
    /// Redis.
    pub(crate) struct RedisOptions at "store.redis" {
        /// Address.
        url: Option<String> = optional(HTTP_URL).variable("REDIS_URL"),
        /// Password.
        password: Option<SecretString> = optional(API_KEY).variable("REDIS_PASSWORD"),
    }
}

options! {
    /// One server.
    #[derive(Debug)]
    pub(crate) struct PeerOptions at "" {
        /// Name.
        name: Option<String> = optional(TEXT),
        /// Whether it is asked.
        enabled: bool = required(BOOLEAN, "true"),
        /// Arguments.
        args: Vec<String> = list(TEXT.keep_space()),
        /// Headers.
        headers: BTreeMap<String, SecretString> = map(HEADER_VALUE),
    }
}

options! {
    /// Other servers.
    pub(crate) struct PeersOptions at "peers" {
        /// The servers.
        list: Vec<PeerOptions> = custom(TEXT, FieldShape::Sections(&PeerOptions::SECTION), read_peers).live(),
        /// The servers by name.
        named: Vec<(String, PeerOptions)> = custom(TEXT, FieldShape::NamedSections(&PeerOptions::SECTION), read_named_peers),
    }
}

fn read_peers(scope: &mut SettingScope<'_>, key: &'static str) -> Vec<PeerOptions> {
    scope.read_items(key, PeerOptions::read_from)
}

fn read_named_peers(scope: &mut SettingScope<'_>, key: &'static str) -> Vec<(String, PeerOptions)> {
    scope.read_named_items(key, |name, scope| (name.to_owned(), PeerOptions::read_from(scope)))
}

fn catalog() -> SettingsCatalog {
    SettingsCatalog::new(&[
        &ServerOptions::SECTION,
        &StoreOptions::SECTION,
        &RedisOptions::SECTION,
        &PeersOptions::SECTION,
    ])
    .with_item_variables(&[ItemVariable {
        item: "peers.named.main",
        key: "enabled",
        variable: "MAIN_ENABLED",
        accepts: None,
        example: "",
        doc: "Whether the main peer is asked.",
    }])
    .with_standalone_variables(&[StandaloneVariable {
        variable: "K8SOPS_CONFIG",
        accepts: "a path",
        example: "/etc/k8sops.yaml",
        doc: "Your own YAML.",
    }])
    .with_builtin_yaml("peers: {named: {main: {name: builtin, enabled: true}}}\n")
    .with_reserved_reference("${user.token}")
}

struct AllOptions {
    server: ServerOptions,
    store: StoreOptions,
    redis: RedisOptions,
    peers: PeersOptions,
    report: ReadReport,
}

fn read_all(env: &[(&str, &str)], dotenv: &str, yaml: &str) -> AllOptions {
    let sources = SettingSources {
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        dotenv: Some(dotenv.to_owned()),
        yaml: Some((PathBuf::from("own.yaml"), yaml.to_owned())),
    };
    let mut reader = SettingReader::new(&catalog(), sources);
    let server = reader.read_section();
    let store = reader.read_section();
    let redis = reader.read_section();
    let peers = reader.read_section();
    reader.warn_of_unknown_variables("K8SOPS_");
    AllOptions { server, store, redis, peers, report: reader.finish() }
}

fn problems(yaml: &str) -> Vec<String> {
    read_all(&[], "", yaml).report.problems
}

#[test]
fn later_source_wins_and_origin_is_known() {
    let yaml = "server: {port: 1, shutdown_timeout: 1s}\nstore:\n  kind: redis\n";
    let all = read_all(&[("K8SOPS_PORT", "3"), ("K8SOPS_BANNER", "")], "K8SOPS_PORT=2\nK8SOPS_BANNER=x\n", yaml);
    assert_eq!(all.report.problems, [""; 0]);
    assert_eq!(all.server.port, 3);
    assert_eq!(all.server.shutdown_timeout, Duration::from_secs(1));
    assert_eq!(all.server.banner, "", "an empty variable of the environment hides the one of .env");
    assert_eq!(all.store.kind, StoreKind::Redis);
    assert!(all.redis.url.is_none() && all.redis.password.is_none());
    let origins: Vec<_> = all.report.effective.iter().take(4).map(|s| s.origin.to_string()).collect();
    assert_eq!(origins, ["K8SOPS_PORT (environment)", "own.yaml:1", "default", "own.yaml:3"]);
}

#[test]
fn every_wrong_value_is_reported_and_the_next_source_is_tried() {
    let yaml = "server: {port: 80a}\nstore: {kind: postgres}\npeers: {list: [{enabled: maybe}]}\n";
    let all = read_all(&[("K8SOPS_PORT", "99999"), ("REDIS_PASSWORD", "a secret with spaces")], "A-B\n", yaml);
    assert_eq!(
        all.report.problems,
        [
            ".env line 1: not a variable; allowed: NAME=value, NAME=\"value\", NAME='value', # comment",
            "K8SOPS_PORT is `99999`; allowed: a whole number from 0 to 65535",
            "own.yaml line 1: server.port is `80a`; allowed: a whole number from 0 to 65535",
            "own.yaml line 2: store.kind is `postgres`; allowed: memory or redis",
            "REDIS_PASSWORD is `****es`; allowed: a key: printable ASCII without spaces",
            "own.yaml line 3: peers.list[0].enabled is `maybe`; allowed: true, false, 1, 0, yes, no, on or off",
        ]
    );
    assert_eq!(all.server.port, 8080);
}

#[test]
fn items_are_read_with_their_names_lists_and_maps() {
    let yaml = "peers:\n  list:\n  - {name: a, args: [-y, 8080, ' ', \"\"], headers: {Authorization: \"Bearer ${T}\"}}\n  named: {main: {enabled: no}, other: {}}\n";
    let all = read_all(&[("T", " x\n")], "", yaml);
    assert_eq!(all.report.problems, [""; 0]);
    let peer = &all.peers.list[0];
    assert_eq!((peer.name.as_deref(), peer.enabled), (Some("a"), true));
    assert_eq!(peer.args, ["-y", "8080", " ", ""]);
    assert_eq!(peer.headers["Authorization"].expose_secret(), "Bearer  x", "space around a value is removed");
    let named: Vec<_> = all.peers.named.iter().map(|(id, peer)| (id.as_str(), peer.name.as_deref())).collect();
    assert_eq!(named, [("main", Some("builtin")), ("other", None)], "layers are merged key by key");
    let all = read_all(&[("MAIN_ENABLED", "yes")], "", yaml);
    assert!(all.peers.named[0].1.enabled, "the variable of an item wins");
}

#[test]
fn scalars_stay_as_they_were_written() {
    let all = read_all(&[], "", "server: {banner: 1.10}\npeers: {list: [{name: 007}, {name: yes}, {name: ~}]}\n");
    assert_eq!(all.server.banner, "1.10");
    let names: Vec<_> = all.peers.list.iter().map(|peer| peer.name.as_deref()).collect();
    assert_eq!(names, [Some("007"), Some("yes"), None]);
}

#[test]
fn empty_document_sets_nothing() {
    for text in ["", "# nothing\n", "---\n", "{}", "server:\n"] {
        assert_eq!(problems(text), [""; 0], "{text:?}");
    }
}

#[test]
fn unknown_keys_are_reported_with_line_and_suggestion() {
    assert_eq!(
        problems("server:\n  prot: 1\nstroe: {}\npeers:\n  named:\n    x: {nmae: a}\n  list:\n  - banana: 1\n"),
        [
            "own.yaml: line 2: there is no setting `server.prot`; did you mean `port`?",
            "own.yaml: line 3: there is no setting `stroe`; did you mean `store`?",
            "own.yaml: line 6: there is no setting `peers.named.x.nmae`; did you mean `name`?",
            "own.yaml: line 8: there is no setting `peers.list[0].banana`; allowed: name, enabled, args, headers",
        ]
    );
}

#[test]
fn wrong_shape_is_one_line_that_names_the_place() {
    for (text, place) in [
        ("server: 5\n", "server"),
        ("peers:\n  list:\n  - headers: 5e-1\n", "peers.list[0].headers"),
        ("peers:\n  list:\n  - headers: Bearer hidden\n", "line 3"),
        ("server:\n  port: [1]\n", "line 2"),
        ("peers:\n  list: {a: b}\n", "peers.list"),
        ("a: b: c\n", "line 1"),
        ("server: {}\nserver: {}\n", "line 2"),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(!found[0].contains("hidden"), "{found:?}");
        assert!(found[0].contains(place) && !found[0].contains('\n'), "{text:?}: {found:?}");
    }
}

#[test]
fn references_are_replaced_after_parsing_and_must_be_set() {
    let banner = |text: &str| {
        let all = read_all(&[("T", "a: b # c"), ("P", "0")], "", &format!("server: {{banner: '{text}'}}\n"));
        (all.report.problems.first().cloned().unwrap_or_default(), all.server.banner)
    };
    for (text, expanded) in [
        ("x ${T}", "x a: b # c"),
        ("${H:-::1}", "::1"),
        ("a $${P} $5 ${P}", "a ${P} $5 0"),
        ("Bearer ${user.token} ${P}", "Bearer ${user.token} 0"),
        ("${H:-}", ""),
    ] {
        assert_eq!(banner(text), (String::new(), expanded.to_owned()), "{text}");
    }
    let unset = "own.yaml: line 1: the variable `NOPE` is not set; set it, or write `${NOPE:-}` for nothing";
    assert_eq!(banner("${NOPE}").0, unset);
    assert_eq!(banner("${P").0, "own.yaml: line 1: `${` without `}`; write `$${` for `${` itself");
}

#[test]
fn values_are_checked_beside_unknown_keys_and_references() {
    let text = "server: {prot: 1, port: x, banner: '${NOPE}'}\npeers: {list: [{name: a, url: 1}]}\n";
    let found = read_all(&[], "", text).report.problems;
    assert_eq!(found.iter().filter(|problem| problem.contains("`prot`") || problem.contains("server.prot")).count(), 1);
    assert!(found.iter().any(|problem| problem.contains("server.port is `x`")), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("`NOPE` is not set")), "{found:?}");
    assert!(found.iter().all(|problem| !problem.contains("server.banner")), "{found:?}");
}

#[test]
fn unknown_variables_are_warned_of() {
    let environment = [("K8SOPS_PROT", "1"), ("K8SOPS_CONFIG", "x"), ("K8SOPS_OWN_TOKEN", "x")];
    // The YAML names the variable of the token, so that something reads it.
    let all = read_all(&environment, "K8SOPS_BANANA=1\n", "server: {banner: '${K8SOPS_OWN_TOKEN}'}\n");
    assert_eq!(
        all.report.warnings,
        [
            "K8SOPS_BANANA is set and is not a variable of k8sops; `k8sops config --reference` lists all variables",
            "K8SOPS_PROT is set and is not a variable of k8sops; did you mean K8SOPS_PORT?",
        ]
    );
}

#[test]
fn what_is_inside_of_a_live_setting_is_live() {
    let catalog = catalog();
    for path in ["server.shutdown_timeout", "peers.list", "peers.list[0].name"] {
        assert!(catalog.is_live(path), "{path}");
    }
    for path in ["server.port", "peers.named.main.enabled", "peers.listing", "server"] {
        assert!(!catalog.is_live(path), "{path}");
    }
}

#[test]
fn origin_and_shown_value_of_a_read_setting_can_be_asked_for() {
    let mut reader = SettingReader::new(&catalog(), SettingSources::default());
    let _: ServerOptions = reader.read_section();
    reader.replace_shown_value("server.banner", "hello");
    assert_eq!(reader.origin_of("server.banner"), SettingOrigin::Default);
    let effective = reader.finish().effective;
    assert_eq!(
        render_effective(&catalog(), &effective),
        "server.port              8080   default\n\
         server.shutdown_timeout  75s    default  (live)\n\
         server.banner            hello  default\n"
    );
}

#[test]
fn generated_texts_are_as_reviewed() {
    insta::assert_snapshot!("env_example", render_env_example(&catalog(), "Copy to .env."));
    insta::assert_snapshot!("yaml_defaults", render_yaml_defaults(&catalog(), "The defaults."));
    insta::assert_snapshot!("reference", render_reference(&catalog(), "# Settings"));
    insta::assert_snapshot!("json_schema", render_json_schema(&catalog(), "settings"));
}

#[test]
fn generated_examples_load_and_change_nothing() {
    let yaml = render_yaml_defaults(&catalog(), "The defaults.");
    let all = read_all(&[], "", &yaml);
    assert_eq!(all.report.problems, [""; 0], "{yaml}");
    assert_eq!(all.server.port, 8080);
    let env = render_env_example(&catalog(), "Copy to .env.");
    let uncommented: Vec<_> = env.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let uncommented: Vec<_> = uncommented.into_iter().filter(|line| !line.starts_with(' ')).collect();
    let all = read_all(&[], &uncommented.join("\n"), "");
    assert_eq!(all.report.problems, [""; 0], "{env}");
    assert_eq!(all.server.banner, "two words");
}
