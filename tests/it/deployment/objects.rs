//! The objects that the chart renders.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8sops::config::settings_catalog;
use k8sops_testing::testbed;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::service::{ServiceSetup, TestService};

use super::chart::{
    ROOT, VARIABLES_OUTSIDE_THE_CATALOG, as_list, chart_folder, config_map_data, egress_ports, find_object,
    has_cluster_sidecar, helm_command, parse_objects, pod_spec, render_chart, render_objects, run_command,
    values_files,
};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn dockerfile_passes_hadolint_and_runs_as_non_root() {
    let recipe = Path::new(ROOT).join("Dockerfile");
    run_command(Command::new(testbed::path("K8SOPS_TEST_HADOLINT")).arg(&recipe), None).await.unwrap();
    let text = std::fs::read_to_string(recipe).unwrap();
    let (_, image) = text.rsplit_once("\nFROM ").unwrap();
    assert!(text.contains("\nARG RUNTIME_IMAGE=gcr.io/distroless/"), "the public base image is the default");
    assert!(image.starts_with("${RUNTIME_IMAGE}") && image.contains("\nUSER 65532:65532\n"), "{image}");
    assert!(!image.contains("\nRUN "), "there is no shell in the image: {image}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn chart_renders_valid_objects_with_helm_3_and_4() {
    let chart = chart_folder();
    for (name, values) in values_files() {
        let values = values.to_str().unwrap();
        let mut by_version = Vec::new();
        for variable in ["K8SOPS_TEST_HELM", "K8SOPS_TEST_HELM3"] {
            let lint = ["lint", "--strict", "--values", values, chart.to_str().unwrap()];
            run_command(&mut helm_command(variable, &lint), None).await.unwrap_or_else(|said| panic!("{name}: {said}"));
            let text = render_chart(variable, &["--values", values]).await.unwrap();
            let mut objects = parse_objects(&text).await;
            // A generated key is another one each time.
            for secret in objects.iter_mut().filter(|o| o["kind"] == "Secret") {
                secret["data"] = Value::Null;
            }
            by_version.push(objects);
        }
        assert_eq!(by_version[0], by_version[1], "{name}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn containers_are_restricted_and_have_no_cluster_token() {
    for (name, values) in values_files() {
        let objects = render_objects(&values, &[]).await;
        let pod = pod_spec(&objects);
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        for container in as_list(&pod["containers"]).iter().chain(as_list(&pod["initContainers"])) {
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            });
            assert_eq!(container["securityContext"], expected, "{name}: {}", container["name"]);
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {}", container["name"]);
            let token = as_list(&container["volumeMounts"]).iter().any(|m| m["name"] == "cluster-access");
            assert!(!token || container["name"] == "mcp", "{name}: {}", container["name"]);
        }
        for account in objects.iter().filter(|o| o["kind"] == "ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{name}");
        }
        let bound = objects.iter().any(|o| o["kind"].as_str().unwrap().ends_with("Binding"));
        assert_eq!(bound, has_cluster_sidecar(&name), "{name}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn generated_key_is_accepted_and_does_not_reach_the_pod() {
    let objects = render_objects(&values_files()["values-quickstart"], &[]).await;
    let data = &find_object(&objects, "Secret")["data"];
    let decode = |name: &str| {
        let bytes = BASE64_STANDARD.decode(data[name].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let (key, keys_file) = (decode("key"), decode("api-keys"));
    assert!(key.starts_with("k8sops_") && key.len() == 50 && !keys_file.contains(&key), "{keys_file}");
    let volumes = as_list(&pod_spec(&objects)["volumes"]);
    let mounted: Vec<&Value> = volumes.iter().filter(|volume| volume["secret"].is_object()).collect();
    let items = json!([{"key": "api-keys", "path": "api-keys"}]);
    assert!(mounted.iter().any(|volume| volume["secret"]["items"] == items), "{mounted:?}");

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("api-keys");
    std::fs::write(&file, keys_file).unwrap();
    let env = vec![("AUTH_MODE", "api_key".to_owned()), ("AUTH_API_KEYS_FILE", file.to_str().unwrap().to_owned())];
    let mut service = TestService::start(ServiceSetup { env, ..ServiceSetup::default() }).await;
    service.token = Some(key);
    let info = service.get("/v1/info").await;
    assert_eq!((&info["user_id"], &info["roles"]), (&json!("me"), &json!(["user"])));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn probes_and_variables_of_the_chart_exist() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    for (name, values) in values_files() {
        let objects = render_objects(&values, &[]).await;
        let pod = pod_spec(&objects);
        let container = &as_list(&pod["containers"])[0];
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().unwrap();
            assert!(document["paths"][path]["get"].is_object(), "{name}: {probe} {path}");
        }
        let env = config_map_data(&objects, "-env");
        let stop: u64 = env["K8SOPS_SHUTDOWN_TIMEOUT"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
        let waits = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or_default();
        // Closing connections, stopping MCP servers, and killing those that do not stop.
        let whole = waits + stop + 5 + 10 + 5;
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= whole, "{name}");
        let extra = as_list(&container["env"]).iter().map(|entry| entry["name"].as_str().unwrap());
        let settings = settings_catalog().entries_with_variable();
        for variable in env.keys().map(String::as_str).chain(extra) {
            let setting = settings.iter().find(|entry| entry.descriptor.variable == variable);
            assert!(setting.is_some() || VARIABLES_OUTSIDE_THE_CATALOG.contains(&variable), "{name}: {variable}");
            let is_secret = setting.is_some_and(|setting| setting.descriptor.secret);
            assert!(!is_secret, "{name}: {variable} is a secret in a ConfigMap");
        }
        for mount in as_list(&container["volumeMounts"]) {
            assert!(as_list(&pod["volumes"]).iter().any(|v| v["name"] == mount["name"]), "{name}: {mount}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn autoscaling_uses_an_existing_metric() {
    let objects = render_objects(&values_files()["redis-jwt-values"], &[]).await;
    assert_eq!(find_object(&objects, "Deployment")["spec"].get("replicas"), None);
    let hpa = &find_object(&objects, "HorizontalPodAutoscaler")["spec"];
    let metric = hpa["metrics"][0]["pods"]["metric"]["name"].as_str().unwrap();
    assert!(k8sops_telemetry::Metrics::new().render().contains(&format!("\n{metric}{{")), "{metric}");
    assert_eq!(hpa["scaleTargetRef"]["name"], find_object(&objects, "Deployment")["metadata"]["name"]);
    assert_eq!(hpa["metrics"][0]["pods"]["target"], json!({"type": "AverageValue", "averageValue": "500"}));
    assert_eq!(config_map_data(&objects, "-env")["MAX_SESSIONS"], "1000000");
    let route = &find_object(&objects, "HTTPRoute")["spec"]["rules"][0];
    assert_eq!(route["sessionPersistence"]["sessionName"], "k8sops_route");
    let service = find_object(&objects, "Service");
    assert_eq!(route["backendRefs"][0]["name"], service["metadata"]["name"]);
    assert_eq!(route["backendRefs"][0]["port"], service["spec"]["ports"][0]["port"]);
    // The ServiceMonitor must not match the headless Service: every pod would be scraped twice.
    let monitor = &find_object(&objects, "ServiceMonitor")["spec"];
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
    let objects = render_objects(values, &[]).await;
    let ingress = as_list(&find_object(&objects, "Ingress")["spec"]["rules"][0]["http"]["paths"]);
    let ingress: Vec<_> = ingress.iter().map(|path| path["path"].as_str().unwrap()).collect();
    let route = as_list(&find_object(&objects, "HTTPRoute")["spec"]["rules"][0]["matches"]);
    let route: Vec<_> = route.iter().map(|found| found["path"]["value"].as_str().unwrap()).collect();
    assert_eq!(ingress, route);
    let served = document["paths"].as_object().unwrap().keys().map(String::as_str);
    for path in served.chain(["/docs", "/docs/", "/docs/index.html", "/"]) {
        let routed = ingress.iter().any(|prefix| path == *prefix || path.starts_with(&format!("{prefix}/")));
        let kept = ["/healthz", "/readyz", "/metrics", "/"].contains(&path);
        assert_eq!(routed, !kept, "{path}");
    }
    assert_eq!(config_map_data(&objects, "-env")["AUTH_METRICS"], "open");
    let guarded = ["--set", "auth.metrics=admin,ingress.paths={/}"];
    let objects = render_objects(values, &guarded).await;
    assert_eq!(config_map_data(&objects, "-env")["AUTH_METRICS"], "admin");
    assert_eq!(find_object(&objects, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["path"], "/");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn network_policy_opens_only_configured_ports() {
    let files = values_files();
    assert_eq!(egress_ports(&render_objects(&files["api-key-filesystem-values"], &[]).await), [53, 53, 443]);
    assert_eq!(
        egress_ports(&render_objects(&files["redis-jwt-values"], &[]).await),
        [53, 53, 26379, 6379, 443, 8443, 4317, 4318]
    );
    assert_eq!(egress_ports(&render_objects(&files["proxy-sidecar-values"], &[]).await), [53, 53, 443, 443, 6443]);
    let closed = ["--set", "networkPolicy.egress.dns=false", "--set-json", "networkPolicy.egress.providers.ports=[]"];
    let closed = render_objects(&files["api-key-filesystem-values"], &closed).await;
    assert_eq!(egress_ports(&closed), [0; 0]);
    assert_eq!(find_object(&closed, "NetworkPolicy")["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
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
        let found = egress_ports(&render_objects(good, &["--set", &values]).await);
        assert_eq!(found, [vec![53, 53], expected, vec![443]].concat(), "{values}");
    }
}
