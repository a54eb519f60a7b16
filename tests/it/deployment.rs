//! The Dockerfile, the Helm chart, and the plain manifests that are rendered from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
};

use k8sops::config::settings_catalog;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::program::k8sops_command;
use k8sops_testing::{TEST_TIMEOUT, child_program::ChildProgram, testbed};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Variables of the chart that are not in the table of settings.
const OTHERS: [&str; 1] = ["K8SOPS_CONFIG"];

fn chart() -> PathBuf {
    Path::new(ROOT).join("deploy/helm/k8sops")
}

/// The example values of the chart, by file name.
fn values_files() -> BTreeMap<String, PathBuf> {
    let files = std::fs::read_dir(chart().join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path));
    let all: BTreeMap<_, _> = named.collect();
    assert!(all.len() >= 4, "{all:?}");
    all
}

async fn output(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let written = async {
        stdin.write_all(input.unwrap_or_default().as_bytes()).await.unwrap();
        drop(stdin);
    };
    let ended = async { tokio::join!(written, child.wait_with_output()).1 };
    let output = timeout(TEST_TIMEOUT, ended).await.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    if output.status.success() { Ok(out) } else { Err(format!("{out}{err}")) }
}

fn helm(variable: &str, args: &[&str]) -> Command {
    let mut command = Command::new(testbed::path(variable));
    // Helm keeps files in the home folder.
    command.env("HOME", std::env::temp_dir()).args(args);
    command
}

/// Renders the chart. An error holds the message of a failed validation.
async fn rendered(variable: &str, args: &[&str]) -> Result<String, String> {
    let chart = chart();
    let all = ["template", "ops", chart.to_str().unwrap(), "--namespace", "ops", "--kube-version", "1.31"];
    output(&mut helm(variable, &[&all, args].concat()), None).await
}

/// Parses manifests and validates the objects against the schemas of Kubernetes.
async fn objects(manifests: &str) -> Vec<Value> {
    let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    python.arg(testbed::path("K8SOPS_TEST_KUBE_OBJECTS")).args(["1.30", "1.37"]);
    let json = output(&mut python, Some(manifests)).await.unwrap();
    let mut node = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    node.arg(testbed::path("K8SOPS_TEST_KUBE_MODELS")).arg(testbed::path("K8SOPS_TEST_NODE_MODULES"));
    output(&mut node, Some(&json)).await.unwrap();
    serde_json::from_str(&json).unwrap()
}

async fn objects_of(values: &Path, args: &[&str]) -> Vec<Value> {
    let args = [&["--values", values.to_str().unwrap()], args].concat();
    objects(&rendered("K8SOPS_TEST_HELM", &args).await.unwrap()).await
}

fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|o| o["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn pod(objects: &[Value]) -> &Value {
    &the(objects, "Deployment")["spec"]["template"]["spec"]
}

fn config_map<'a>(objects: &'a [Value], end: &str) -> &'a serde_json::Map<String, Value> {
    let named = |o: &&Value| o["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end));
    objects.iter().filter(|o| o["kind"] == "ConfigMap").find(named).unwrap()["data"].as_object().unwrap()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn dockerfile_passes_hadolint_and_runs_as_non_root() {
    let recipe = Path::new(ROOT).join("Dockerfile");
    output(Command::new(testbed::path("K8SOPS_TEST_HADOLINT")).arg(&recipe), None).await.unwrap();
    let text = std::fs::read_to_string(recipe).unwrap();
    let (_, image) = text.rsplit_once("\nFROM ").unwrap();
    assert!(image.starts_with("gcr.io/distroless/") && image.contains("\nUSER 65532:65532\n"), "{image}");
    assert!(!image.contains("\nRUN "), "there is no shell in the image: {image}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn chart_renders_valid_objects_with_helm_3_and_4() {
    let chart = chart();
    for (name, values) in values_files() {
        let values = values.to_str().unwrap();
        let mut by_version = Vec::new();
        for variable in ["K8SOPS_TEST_HELM", "K8SOPS_TEST_HELM3"] {
            let lint = ["lint", "--strict", "--values", values, chart.to_str().unwrap()];
            output(&mut helm(variable, &lint), None).await.unwrap_or_else(|said| panic!("{name}: {said}"));
            let text = rendered(variable, &["--values", values]).await.unwrap();
            by_version.push(objects(&text).await);
        }
        assert_eq!(by_version[0], by_version[1], "{name}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn containers_are_restricted_and_have_no_cluster_token() {
    for (name, values) in values_files() {
        let objects = objects_of(&values, &[]).await;
        let pod = pod(&objects);
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            });
            assert_eq!(container["securityContext"], expected, "{name}: {}", container["name"]);
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {}", container["name"]);
            let token = list(&container["volumeMounts"]).iter().any(|m| m["name"] == "cluster-access");
            assert!(!token || container["name"] == "mcp", "{name}: {}", container["name"]);
        }
        for account in objects.iter().filter(|o| o["kind"] == "ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{name}");
        }
        let bound = objects.iter().any(|o| o["kind"].as_str().unwrap().ends_with("Binding"));
        assert_eq!(bound, name == "proxy-sidecar-values", "{name}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn probes_and_variables_of_the_chart_exist() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    for (name, values) in values_files() {
        let objects = objects_of(&values, &[]).await;
        let pod = pod(&objects);
        let container = &list(&pod["containers"])[0];
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().unwrap();
            assert!(document["paths"][path]["get"].is_object(), "{name}: {probe} {path}");
        }
        let env = config_map(&objects, "-env");
        let stop: u64 = env["K8SOPS_SHUTDOWN_TIMEOUT"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
        let waits = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or_default();
        // Closing connections, stopping MCP servers, and killing those that do not stop.
        let whole = waits + stop + 5 + 10 + 5;
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= whole, "{name}");
        let extra = list(&container["env"]).iter().map(|entry| entry["name"].as_str().unwrap());
        let settings = settings_catalog().entries_with_variable();
        for variable in env.keys().map(String::as_str).chain(extra) {
            let setting = settings.iter().find(|entry| entry.descriptor.variable == variable);
            assert!(setting.is_some() || OTHERS.contains(&variable), "{name}: {variable}");
            let is_secret = setting.is_some_and(|setting| setting.descriptor.secret);
            assert!(!is_secret, "{name}: {variable} is a secret in a ConfigMap");
        }
        for mount in list(&container["volumeMounts"]) {
            assert!(list(&pod["volumes"]).iter().any(|v| v["name"] == mount["name"]), "{name}: {mount}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn autoscaling_uses_an_existing_metric() {
    let objects = objects_of(&values_files()["redis-jwt-values"], &[]).await;
    assert_eq!(the(&objects, "Deployment")["spec"].get("replicas"), None);
    let hpa = &the(&objects, "HorizontalPodAutoscaler")["spec"];
    let metric = hpa["metrics"][0]["pods"]["metric"]["name"].as_str().unwrap();
    assert!(k8sops_telemetry::Metrics::new().render().contains(&format!("\n{metric}{{")), "{metric}");
    assert_eq!(hpa["scaleTargetRef"]["name"], the(&objects, "Deployment")["metadata"]["name"]);
    assert_eq!(hpa["metrics"][0]["pods"]["target"], json!({"type": "AverageValue", "averageValue": "500"}));
    assert_eq!(config_map(&objects, "-env")["MAX_SESSIONS"], "1000000");
    let route = &the(&objects, "HTTPRoute")["spec"]["rules"][0];
    assert_eq!(route["sessionPersistence"]["sessionName"], "k8sops_route");
    let service = the(&objects, "Service");
    assert_eq!(route["backendRefs"][0]["name"], service["metadata"]["name"]);
    assert_eq!(route["backendRefs"][0]["port"], service["spec"]["ports"][0]["port"]);
    // The ServiceMonitor must not match the headless Service: every pod would be scraped twice.
    let monitor = &the(&objects, "ServiceMonitor")["spec"];
    assert_eq!(monitor["endpoints"][0]["path"], "/metrics");
    let headless = objects.iter().find(|o| o["kind"] == "Service" && o["spec"]["clusterIP"] == "None").unwrap();
    assert!(headless["metadata"]["labels"]["app.kubernetes.io/component"].is_string());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn ingress_excludes_metrics_and_probes() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    let files = values_files();
    let values = &files["redis-jwt-values"];
    let objects = objects_of(values, &[]).await;
    let ingress = list(&the(&objects, "Ingress")["spec"]["rules"][0]["http"]["paths"]);
    let ingress: Vec<_> = ingress.iter().map(|path| path["path"].as_str().unwrap()).collect();
    let route = list(&the(&objects, "HTTPRoute")["spec"]["rules"][0]["matches"]);
    let route: Vec<_> = route.iter().map(|found| found["path"]["value"].as_str().unwrap()).collect();
    assert_eq!(ingress, route);
    let served = document["paths"].as_object().unwrap().keys().map(String::as_str);
    for path in served.chain(["/docs", "/docs/", "/docs/index.html", "/"]) {
        let routed = ingress.iter().any(|prefix| path == *prefix || path.starts_with(&format!("{prefix}/")));
        let kept = ["/healthz", "/readyz", "/metrics", "/"].contains(&path);
        assert_eq!(routed, !kept, "{path}");
    }
    assert_eq!(config_map(&objects, "-env")["AUTH_METRICS"], "open");
    let guarded = ["--set", "auth.metrics=admin,ingress.paths={/}"];
    let objects = objects_of(values, &guarded).await;
    assert_eq!(config_map(&objects, "-env")["AUTH_METRICS"], "admin");
    assert_eq!(the(&objects, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["path"], "/");
}

/// The settings.yaml that the chart gives a pod.
fn settings(objects: &[Value]) -> &str {
    config_map(objects, "-k8sops")["settings.yaml"].as_str().unwrap()
}

/// The ports that the NetworkPolicy opens for egress.
fn ports(objects: &[Value]) -> Vec<u64> {
    let rules = list(&the(objects, "NetworkPolicy")["spec"]["egress"]).iter();
    rules.flat_map(|rule| list(&rule["ports"])).map(|port| port["port"].as_u64().unwrap()).collect()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn network_policy_opens_only_configured_ports() {
    let files = values_files();
    assert_eq!(ports(&objects_of(&files["api-key-filesystem-values"], &[]).await), [53, 53, 443]);
    assert_eq!(ports(&objects_of(&files["redis-jwt-values"], &[]).await), [53, 53, 26379, 6379, 443, 8443, 4317, 4318]);
    assert_eq!(ports(&objects_of(&files["proxy-sidecar-values"], &[]).await), [53, 53, 443, 443, 6443]);
    let closed = ["--set", "networkPolicy.egress.dns=false", "--set-json", "networkPolicy.egress.providers.ports=[]"];
    let closed = objects_of(&files["api-key-filesystem-values"], &closed).await;
    assert_eq!(ports(&closed), [0; 0]);
    assert_eq!(the(&closed, "NetworkPolicy")["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn network_policy_follows_the_redis_url() {
    let files = values_files();
    let good = &files["api-key-filesystem-values"];
    for (redis, expected) in [
        ("url=redis://redis", vec![6379]),
        ("url=redis://redis:6380", vec![6380]),
        ("url=rediss://redis:6380/2#insecure", vec![6380]),
        (r"url=redis://[fd00::1]\,redis://[fd00::2]:7000/0,topology=cluster", vec![6379, 7000]),
        (r"url=redis://a:7000\,redis://b:7001\,redis://c:7000,topology=cluster", vec![7000, 7001]),
        (r"url=redis://a:26379\,redis://b:26380,topology=sentinel", vec![26379, 26380, 6379]),
        ("url=redis://a:26379,topology=sentinel,ports={6390}", vec![26379, 6390]),
        ("existingSecret=redis", vec![6379]),
        ("existingSecret=redis,ports={6380}", vec![6380]),
        ("existingSecret=redis,topology=sentinel", vec![26379, 6379]),
    ] {
        let values = format!("store.backend=redis,store.redis.{redis}");
        let values = values.replace(",topology", ",store.redis.topology");
        let values = values.replace(",ports", ",networkPolicy.egress.redis.ports");
        let found = ports(&objects_of(good, &["--set", &values]).await);
        assert_eq!(found, [vec![53, 53], expected, vec![443]].concat(), "{values}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn invalid_values_are_rejected_with_a_remedy() {
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    for (set, said) in [
        ("auth.mode=", "auth.mode is not set: choose api_key, jwt, proxy, or none"),
        ("auth.mode=none", "Set auth.allowInsecure: true if that is intended"),
        ("auth.mode=oidc", "auth/mode"),
        ("auth.mode=jwt", "set auth.jwt.issuer and auth.jwt.audience"),
        ("auth.mode=proxy", "set auth.proxy.userHeader and auth.proxy.sources"),
        ("auth.apiKeys.existingSecret=", "name the Secret with the file of keys in auth.apiKeys.existingSecret"),
        ("replicas=2", "store.backend is filesystem, which supports one replica only"),
        ("autoscaling.enabled=true", "store.backend is filesystem, which supports one replica only"),
        ("store.backend=redis", "set store.redis.url, or name a Secret"),
        ("store.backend=postgres", "store/backend"),
        ("store.redis.url=redis redis", "store/redis/url"),
        ("ingress.enabled=true", "name at least one host in ingress.hosts"),
        ("httpRoute.enabled=true", "name the Gateway in httpRoute.parentRefs"),
        (
            "ingress.enabled=true,ingress.hosts={ops.example.com},ingress.paths={/}",
            "ingress.paths: / exposes /metrics, which needs no authentication",
        ),
        (
            "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,httpRoute.paths={/v1,/metrics}",
            "httpRoute.paths: /metrics exposes /metrics, which needs no authentication",
        ),
        ("auth.metrics=everybody", "auth/metrics"),
        ("auth.metrics=admin,serviceMonitor.enabled=true", "in serviceMonitor.bearerTokenSecret.name"),
        (
            "serviceAccount.create=false,rbac.rules[0].verbs={get}",
            "rbac would grant its rules to the account `default`",
        ),
        ("serviceAccount.create=false,rbac.clusterRules[0].verbs={get}", "a dedicated account in serviceAccount.name"),
        ("mcp.sidecar.enabled=true", "set mcp.sidecar.image"),
        ("replica=2", "replica"),
        ("store.redis.ulr=redis://redis", "ulr"),
        ("runAsUser=0", "runAsUser"),
        ("service.port=http", "service/port"),
        (
            "settings.tools.approval_by=approver,settings.tools.approval=auto",
            "no approval would be requested: set the latter to ask",
        ),
        ("settings.tools.approval_by=approver,env.TOOL_APPROVAL=auto", "no approval would be requested"),
        ("env.TOOL_APPROVAL_BY=approver,settings.tools.approval=auto", "no approval would be requested"),
        (
            "env.TOOL_APPROVAL_BY=approver,extraEnv[0].name=TOOL_APPROVAL,extraEnv[0].value=auto",
            "no approval would be requested",
        ),
        (
            "env.TOOL_APPROVAL_BY=approver,auth.mode=none,auth.allowInsecure=true",
            "no other user could approve: choose another auth.mode",
        ),
        ("tracing.otlpEndpoint=collector:4318", "tracing/otlpEndpoint"),
        ("tracing.otlpEndpoint=http://$(HOST_IP):4318", "refer to a variable of extraEnv as ${NAME}"),
        (
            "autoscaling.enabled=true,autoscaling.maxReplicas=1,store.backend=redis,store.redis.url=redis://redis",
            "raise autoscaling.maxReplicas",
        ),
    ] {
        for variable in ["K8SOPS_TEST_HELM", "K8SOPS_TEST_HELM3"] {
            let refused = rendered(variable, &["--values", &good, "--set", set]).await;
            let refused = refused.expect_err(set);
            // Helm 3 and 4 write the path of a value differently.
            assert!(refused.replace('.', "/").contains(&said.replace('.', "/")), "{set}: {refused}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn approver_rule_is_accepted_unless_approval_is_auto() {
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    for set in [
        "settings.tools.approval_by=approver",
        "settings.tools.approval_by=approver,settings.tools.approval=ask",
        "settings.tools.approval_by=owner,settings.tools.approval=auto",
        "settings.tools.approval_by=approver,settings.tools.approval=auto,env.TOOL_APPROVAL=ask",
        "env.TOOL_APPROVAL_BY=approver,env.TOOL_APPROVAL=auto,extraEnv[0].name=TOOL_APPROVAL,extraEnv[0].value=deny",
    ] {
        rendered("K8SOPS_TEST_HELM", &["--values", &good, "--set", set]).await.expect(set);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn literal_secrets_are_rejected() {
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    let server = |rest: &str| format!("mcp.servers[0].name=one,mcp.servers[0].transport=http,mcp.servers[0].{rest}");
    let args = |words: &[&str]| {
        let all = words.iter().enumerate();
        all.fold(server("command=serve"), |set, (at, word)| format!("{set},mcp.servers[0].args[{at}]={word}"))
    };
    for (set, said) in [
        (server("headers.Authorization=Bearer hunter2"), "mcp.servers: one: headers.Authorization is a secret"),
        (server("headers.cookie=hunter2"), "mcp.servers: one: headers.cookie is a secret"),
        (server("headers.X-Api-Key=hunter2"), "mcp.servers: one: headers.X-Api-Key is a secret"),
        (server("env.GITHUB_TOKEN=hunter2"), "mcp.servers: one: env.GITHUB_TOKEN is a secret"),
        (server("env.GITHUB_TOKEN=${NAME:-hunter2}"), "mcp.servers: one: env.GITHUB_TOKEN is a secret"),
        (server("env.GITHUB_TOKEN=$${NAME}"), "mcp.servers: one: env.GITHUB_TOKEN is a secret"),
        (server("url=https://mcp/mcp?api_key=hunter2"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://me:hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://me:$hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://${USER}:hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://mcp/mcp?sig=hunter2&a=b"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://mcp/mcp?a=b&auth=hunter2"), "mcp.servers: one: url has a secret in it"),
        (server("headers.X-Auth=hunter2"), "mcp.servers: one: headers.X-Auth is a secret"),
        (server("headers.Passphrase=hunter2"), "mcp.servers: one: headers.Passphrase is a secret"),
        (server("headers.X-AccessToken=hunter2"), "mcp.servers: one: headers.X-AccessToken is a secret"),
        (args(&["--password", "hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["--verbose", "--token=hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["--header", "Authorization: Bearer hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["-e", "GITHUB_TOKEN=hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["postgres://me:hunter2@db/ops"]), "mcp.servers: one: args has a secret in it"),
        (args(&["-c", "serve --password hunter2 --port 80"]), "mcp.servers: one: args has a secret in it"),
        ("mcp.sidecar.args={--password,hunter2}".into(), "mcp.sidecar.args has a secret in it"),
        ("env.MCP_SERVER_ARGS=--token hunter2".into(), "env.MCP_SERVER_ARGS has a secret in it"),
        ("env.HTTPS_PROXY=http://me:hunter2@proxy:3128".into(), "env.HTTPS_PROXY has a secret in it"),
        (
            "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://me:hunter2@proxy:3128".into(),
            "extraEnv: HTTPS_PROXY has a secret in it",
        ),
        ("tracing.otlpEndpoint=http://me:hunter2@collector:4318".into(), "tracing.otlpEndpoint has a secret in it"),
        ("store.redis.url=redis://:hunter2@redis:6379".into(), "store.redis.url has a user or a secret in it"),
        ("settings.providers.openai.api_key=hunter2".into(), "settings.providers.openai.api_key is a secret"),
        ("settings.providers.own.headers.api-key=hunter2".into(), "settings.providers.own.headers.api-key is a secret"),
        ("settings.telemetry.otlp_headers=a=hunter2".into(), "settings.telemetry.otlp_headers is a secret"),
        ("env.OPENAI_API_KEY=hunter2".into(), "env.OPENAI_API_KEY looks like a secret in a ConfigMap"),
        ("env.OTEL_EXPORTER_OTLP_HEADERS=a=hunter2".into(), "env.OTEL_EXPORTER_OTLP_HEADERS looks like a secret"),
        ("store.redis.url=redis://h?password=hunter2".into(), "store.redis.url has a secret in it"),
        ("extraEnv[0].name=GH_TOKEN,extraEnv[0].value=hunter2".into(), "extraEnv: GH_TOKEN looks like a secret"),
        (
            "mcp.sidecar.env[0].name=GH_TOKEN,mcp.sidecar.env[0].value=hunter2".into(),
            "mcp.sidecar.env: GH_TOKEN looks like a secret",
        ),
    ] {
        for variable in ["K8SOPS_TEST_HELM", "K8SOPS_TEST_HELM3"] {
            let refused = rendered(variable, &["--values", &good, "--set", &set]).await.expect_err(&set);
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{set}: {refused}");
        }
    }
    for set in [
        server("headers.Authorization=Bearer ${MCP_TOKEN}"),
        server("headers.Authorization=Bearer ${user.token}"),
        server("headers.Accept-Language=en"),
        server("env.GITHUB_TOKEN=${GITHUB_TOKEN:-}"),
        server("url=https://mcp/mcp?api_key=${MCP_TOKEN}"),
        server("url=https://me:${MCP_TOKEN}@mcp/mcp"),
        server("url=https://${MCP_TOKEN}@mcp:8443/@ops/mcp?compass=1"),
        server("headers.X-Keyspace=ops"),
        server("headers.X-Portkey-Provider=openai"),
        server("headers.X-Auth-Mode=oauth"),
        server("env.TLS_KEY=/certs/tls.key"),
        args(&[
            "--password",
            "${PASSWORD}",
            "--token=${TOKEN}",
            "--token-file",
            "/etc/token",
            "--key",
            "/certs/tls.key",
        ]),
        args(&["--header", "Authorization: Bearer ${TOKEN}", "git+ssh://git@github.com/ops/mcp", "--max-tokens", "5"]),
        args(&["-c", "serve --token $TOKEN --scope secret:read"]),
        "mcp.sidecar.args={--password,$(PASSWORD)}".into(),
        "env.K8SOPS_TLS_KEY=/certs/tls.key".into(),
        "extraEnv[0].name=K8SOPS_TLS_KEY,extraEnv[0].value=/certs/tls.key".into(),
        "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://me:$(PASSWORD)@proxy:3128".into(),
        "tracing.otlpEndpoint=http://me:${PASSWORD}@collector:4318".into(),
        "settings.providers.own.headers.api-key=${OWN_KEY}".into(),
        "env.LLM_MAX_TOKENS=4096".into(),
        "extraEnv[0].name=GH_TOKEN,extraEnv[0].valueFrom.secretKeyRef.name=gh".into(),
        "extraEnv[0].name=GH_TOKEN,extraEnv[0].value=$(GITHUB_TOKEN)".into(),
    ] {
        rendered("K8SOPS_TEST_HELM", &["--values", &good, "--set", &set]).await.unwrap();
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn managed_settings_are_rejected_elsewhere() {
    let mut own = BTreeSet::from(["AUDIT_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT", "REDIS_URL"].map(str::to_owned));
    for values in values_files().values() {
        own.extend(config_map(&objects_of(values, &[]).await, "-env").keys().cloned());
    }
    // These come from `env` of an example.
    assert!(own.remove("MAX_SESSIONS") && own.remove("MEMORY_SHALLOW"), "{own:?}");
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    let settings = settings_catalog().entries_with_variable();
    for variable in own {
        let setting = settings.iter().find(|entry| entry.descriptor.variable == variable);
        let places = [
            Some((format!("env.{variable}=x"), format!("env.{variable}"))),
            Some((format!("extraEnv[0].name={variable},extraEnv[0].value=x"), format!("extraEnv: {variable}"))),
            setting.map(|setting| (format!("settings.{}=x", setting.path), format!("settings.{}", setting.path))),
        ];
        for (set, place) in places.into_iter().flatten() {
            let refused = rendered("K8SOPS_TEST_HELM", &["--values", &good, "--set", &set]).await.expect_err(&set);
            assert!(refused.contains(&format!("{place} is set by the chart: ")), "{set}: {refused}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn audit_trail_is_durable_and_per_pod() {
    let files = values_files();
    let objects = objects_of(&files["redis-jwt-values"], &[]).await;
    assert!(settings(&objects).contains("log: /var/log/k8sops/${HOSTNAME}.jsonl\n"), "{}", settings(&objects));
    let mounts = list(&list(&pod(&objects)["containers"])[0]["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["mountPath"] == "/var/log/k8sops").unwrap();
    let volume = list(&pod(&objects)["volumes"]).iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert_eq!(volume["persistentVolumeClaim"]["claimName"], "k8sops-audit");
    let own = "extraVolumeMounts[0].name=own,extraVolumeMounts[0].mountPath=/srv,extraVolumes[0].name=own";
    let nfs = format!("{own},extraVolumes[0].nfs.server=nfs,extraVolumes[0].nfs.path=/");
    for (name, set) in [
        ("api-key-filesystem-values", "audit.log=-"),
        ("api-key-filesystem-values", "audit.log=/data/audit.jsonl"),
        ("api-key-filesystem-values", &format!("audit.log=/srv/audit.jsonl,{nfs}")),
        ("try-out-values", "audit.log=/var/log/k8sops/audit.jsonl,audit.existingClaim=audit"),
        ("redis-jwt-values", "audit.log=-,audit.existingClaim="),
        ("redis-jwt-values", &format!("audit.existingClaim=,audit.log=/srv/${{HOSTNAME}}.jsonl,{nfs}")),
        ("redis-jwt-values", "audit.log=/var/log/k8sops/${POD_NAME}.jsonl"),
        (
            "redis-jwt-values",
            &format!(
                "audit.existingClaim=,audit.log=/srv/audit.jsonl,{nfs},extraVolumeMounts[0].subPathExpr=$(POD_NAME)"
            ),
        ),
    ] {
        assert!(
            settings(&objects_of(&files[name], &["--set", set]).await).contains("audit:\n  log: "),
            "{name}: {set}"
        );
    }
    let (nowhere, shared) = ("is not on a writable volume that outlives the pod", "put ${HOSTNAME} into the name");
    for (name, set, said) in [
        ("api-key-filesystem-values", "audit.log=/var/log/k8sops/audit.jsonl", nowhere),
        ("api-key-filesystem-values", "audit.log=/data/../tmp/audit.jsonl", nowhere),
        ("api-key-filesystem-values", "audit.log=/dev/stdout", nowhere),
        ("api-key-filesystem-values", &format!("audit.log=/srv/audit.jsonl,{own}"), nowhere),
        (
            "api-key-filesystem-values",
            &format!("audit.log=/srv/audit.jsonl,{nfs},extraVolumeMounts[0].readOnly=true"),
            nowhere,
        ),
        ("api-key-filesystem-values", "audit.log=audit.jsonl", "audit"),
        ("try-out-values", "audit.log=/data/audit.jsonl", nowhere),
        ("try-out-values", "audit.existingClaim=audit", "set audit.log to a file in that folder"),
        ("redis-jwt-values", "audit.existingClaim=,audit.log=/data/${HOSTNAME}.jsonl", nowhere),
        ("redis-jwt-values", "audit.log=/var/log/k8sops/audit.jsonl", shared),
        ("redis-jwt-values", "autoscaling.enabled=false,audit.log=/var/log/k8sops/audit.jsonl", shared),
        ("redis-jwt-values", "audit.log=/var/log/k8sops/$${HOSTNAME}.jsonl", shared),
        (
            "redis-jwt-values",
            &format!("audit.existingClaim=,audit.log=/srv/audit.jsonl,{nfs},extraVolumeMounts[0].subPathExpr=audit"),
            shared,
        ),
    ] {
        let args = ["--values", files[name].to_str().unwrap(), "--set", set];
        let refused = rendered("K8SOPS_TEST_HELM", &args).await.expect_err(set);
        assert!(refused.contains(said), "{name}: {set}: {refused}");
    }
}

/// The settings that the chart gives a pod, adapted to a test: other paths, and a free port on loopback.
fn given(objects: &[Value], folder: &TempDir) -> BTreeMap<String, String> {
    let yaml = folder.path().join("settings.yaml");
    std::fs::write(&yaml, settings(objects)).unwrap();
    let env = config_map(objects, "-env").iter();
    let mut env: BTreeMap<_, _> = env.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    env.insert("K8SOPS_CONFIG".into(), yaml.to_str().unwrap().into());
    env.insert("K8SOPS_HOST".into(), "127.0.0.1".into());
    env.insert("K8SOPS_PORT".into(), "0".into());
    env.insert("MEMORY_FILESYSTEM_PATH".into(), folder.path().join("data").to_str().unwrap().into());
    env.insert("HOSTNAME".into(), "ops-0".into());
    // A test has no Secrets.
    if env.contains_key("AUTH_API_KEYS_FILE") {
        let keys = folder.path().join("api-keys");
        std::fs::write(&keys, "[]\n").unwrap();
        env.insert("AUTH_API_KEYS_FILE".into(), keys.to_str().unwrap().into());
    }
    env
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn service_accepts_all_settings_of_the_chart() {
    for (name, values) in values_files() {
        let folder = TempDir::new().unwrap();
        let objects = objects_of(&values, &[]).await;
        let mut program = k8sops_command();
        program.arg("config").envs(given(&objects, &folder)).env("ANTHROPIC_API_KEY", "k").env("OPENAI_API_KEY", "k");
        let program = program.output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&program.stdout), String::from_utf8_lossy(&program.stderr));
        assert!(program.status.success(), "{name}: {err}");
        let strange = err.lines().find(|line| !OTHERS.iter().any(|other| line.contains(other)));
        assert_eq!(strange, None, "{name}");
        let backend = out.lines().find(|line| line.starts_with("memory.backend")).unwrap();
        assert!(backend.contains("MEMORY_BACKEND (environment)"), "{name}: {backend}");
        assert_eq!(out.contains("/var/log/k8sops/ops-0.jsonl"), name == "redis-jwt-values", "{name}: {out}");
        for server in ["mcp.servers.cluster", "127.0.0.1:8081/mcp"] {
            assert_eq!(
                out.contains(server),
                name == "proxy-sidecar-values" || server.ends_with("cluster") && name == "redis-jwt-values",
                "{name}: {out}"
            );
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn otlp_endpoint_may_refer_to_the_node_address() {
    let values = [
        "extraEnv[0].name=HOST_IP,extraEnv[0].valueFrom.fieldRef.fieldPath=status.hostIP",
        "tracing.otlpEndpoint=http://${HOST_IP}:4318,settings.telemetry.service_name=ops",
    ];
    let objects = objects_of(&values_files()["api-key-filesystem-values"], &["--set", &values.join(",")]).await;
    assert!(ports(&objects).contains(&4318));
    let folder = TempDir::new().unwrap();
    let mut program = k8sops_command();
    program.arg("config").envs(given(&objects, &folder)).env("ANTHROPIC_API_KEY", "k").env("HOST_IP", "10.0.0.7");
    let program = program.output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&program.stdout), String::from_utf8_lossy(&program.stderr));
    assert!(program.status.success(), "{err}");
    for (setting, value) in [("telemetry.otlp_endpoint", "http://10.0.0.7:4318"), ("telemetry.service_name", "ops")] {
        let line = out.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{setting}: {out}"));
        assert!(line.contains(value), "{line}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn service_starts_with_the_settings_of_the_chart() {
    for name in ["api-key-filesystem-values", "try-out-values"] {
        let folder = TempDir::new().unwrap();
        let objects = objects_of(&values_files()[name], &[]).await;
        let mut program = k8sops_command();
        let program = ChildProgram::start(program.arg("serve").envs(given(&objects, &folder))).await;
        let url = &program.url;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = list(&pod(&objects)["containers"])[0][probe]["httpGet"]["path"].as_str().unwrap();
            let answer = client.get(format!("{url}{path}")).timeout(TEST_TIMEOUT).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name}: {path}");
        }
        program.kill().await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn plain_manifests_are_up_to_date() {
    let written = TempDir::new().unwrap();
    let folder = Path::new(ROOT).join("deploy/manifests");
    let mut script = Command::new("bash");
    script.arg(folder.join("render.sh")).arg(written.path());
    script.env("HELM", testbed::path("K8SOPS_TEST_HELM")).env("HOME", std::env::temp_dir());
    output(&mut script, None).await.unwrap();
    let yaml = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
        files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
    };
    let (there, today): (BTreeMap<_, String>, BTreeMap<_, String>) = (yaml(&folder), yaml(written.path()));
    assert_eq!(there, today, "render them again: HELM=… bash deploy/manifests/render.sh");
    for text in there.values() {
        assert!(objects(text).await.len() >= 7);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn chart_readme_lists_all_values() {
    let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    python.args(["-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"]);
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = serde_json::from_str(&output(&mut python, Some(&values)).await.unwrap()).unwrap();
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let rows: BTreeMap<&str, Value> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"))
        .map(|(path, rest)| (path, serde_json::from_str(rest.split_once("` |").unwrap().0).unwrap()))
        .collect();
    for (path, default) in &rows {
        let found = path.split('.').fold(&values, |value, key| &value[key]);
        assert_eq!(found, default, "{path}");
    }
    let mut missing = Vec::new();
    not_in(&rows, &values, "", &mut missing);
    assert_eq!(missing, [""; 0], "not in the table");
}

fn not_in(rows: &BTreeMap<&str, Value>, value: &Value, path: &str, missing: &mut Vec<String>) {
    if rows.contains_key(path) {
        return;
    }
    match value.as_object().filter(|map| !map.is_empty()) {
        None => missing.push(path.to_owned()),
        Some(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                not_in(rows, value, &path, missing);
            }
        }
    }
}
