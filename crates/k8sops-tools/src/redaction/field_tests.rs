//! Outputs of real tools with a secret in each, outputs that only look like that, and first looks that must not make a second one
//! unreadable.

use std::{borrow::Cow, time::Duration};

use super::*;

/// A generated value, which stands for `@@` in the outputs.
const VALUE: &str = "A9s4OULaKxNaIG8g5714tA76";

/// Outputs in which `@@` is a secret.
const SECRETS: &[&str] = &[
    "    Environment:\n      REDIS_URL:       redis://:@@@redis:6379/0\n      APP:  web\n",
    "HOSTNAME=web-0\nSPRING_DATASOURCE_PASSWORD=@@\nPATH=/bin\n",
    "    environment:\n      - MYSQL_ROOT_PASSWORD=@@\n      - TZ=UTC\n",
    "ENV NODE_ENV=production\nENV NPM_AUTH=@@\nRUN npm ci\n",
    "export RESTIC_PASSWORD='@@'\n",
    "declare -x VAULT_TOKEN=\"@@\"\n",
    "root  1 0.0 /usr/bin/app --db-password=@@ --port 80\n",
    "https://acme.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sig=@@%3D\n",
    "url = https://oauth2:@@@gitlab.example.com/g/p.git\n",
    "Looking in indexes: https://__token__:@@@pypi.example.com/simple\n",
    "//registry.example.com/:_authToken=@@\n",
    "db.prod:5432:shop:app:@@\n",
    "[client]\nuser = root\npassword = @@\n",
    "[default]\naws_access_key_id = AKIAFLMEWJQIGOBALHET\naws_secret_access_key = @@\n",
    "db_password = \"@@\"\nregion = \"eu\"\n",
    "  env = { API_TOKEN = \"@@\", MODE = \"x\" }\n",
    "[auth]\nsecret_key = \"@@\"\n",
    "port 6379\nrequirepass @@\nmaxmemory 1gb\n",
    "rootdn cn=admin\nrootpw @@\n",
    "define('DB_PASSWORD', '@@');\n",
    "  'password' => '@@',\n  'host' => 'db',\n",
    "settings={'HOST': 'db', 'PASSWORD': '@@', 'PORT': 5432}\n",
    "Config(host='db', password='@@', port=5432)\n",
    "config loaded: {Host:db User:app Password:@@ Port:5432}\n",
    "env map[API_KEY:@@ MODE:prod]\n",
    "main.Cfg{User:\"app\", Token:\"@@\"}\n",
    "Settings { host: \"db\", api_key: \"@@\", port: 1 }\n",
    "DbConfig[url=jdbc:x, username=app, password=@@]\n",
    "{:user=>\"a\", :api_key=>\"@@\"}\n",
    "<datasource jndi=\"x\" user-name=\"app\" password=\"@@\"/>\n",
    "<property name=\"hibernate.connection.password\">@@</property>\n",
    "<property><name>fs.s3a.secret.key</name><value>@@</value></property>\n",
    "<server>\n  <id>r</id>\n  <username>u</username>\n  <password>@@</password>\n</server>\n",
    "<key>APIToken</key>\n<string>@@</string>\n",
    "host\tuser\tpassword\ndb\tapp\t@@\n",
    "USER      PASSWORD                  HOST\napp       @@    db\n",
    " usename |        passwd\n---------+---------------------\n app     | @@\n",
    "| Key | Value |\n|---|---|\n| DB_PASSWORD | @@ |\n",
    "name,token,scope\nci,@@,read\n",
    "> X-Api-Key: @@\n> Accept: */*\n",
    "curl -H 'PRIVATE-TOKEN: @@' https://gitlab/x\n",
    "{\"headers\": {\"Authorization\": \"Bearer @@\"}}",
    "proxy_set_header Authorization \"Bearer @@\";\n",
    "< set-cookie: JSESSIONID=@@; Path=/; HttpOnly\n",
    "\"GET /ws?access_token=@@ HTTP/1.1\" 101\n",
    "upstream https://api.example.com/v1?apikey=@@&q=1 failed\n",
    "level=info msg=start api_token=@@ port=80\n",
    "{\"level\": \"debug\", \"cfg\": {\"smtp\": {\"pass\": \"@@\", \"host\": \"m\"}}}",
    "{\"msg\": \"{\\\"db\\\": {\\\"password\\\": \\\"@@\\\"}}\"}",
    "{\"stdout\": \"apiVersion: v1\\nkind: Secret\\ndata:\\n  anything: @@\\n\"}",
    "\u{1b}[1mpassword\u{1b}[0m: \u{1b}[32m@@\u{1b}[0m\n",
    "\u{1b}[36mapi_key=\u{1b}[0m@@\n",
    "Generated admin password: @@\n",
    "The initial admin password is @@\n",
    "Secret Access Key: @@\n",
    "Name:  app\nData\n====\nDB_PASSWORD:\n----\n@@\n\nLOG:\n----\ninfo\n",
    "Data\n====\napp.properties:\n----\nserver.port=80\nspring.mail.password=@@\n\nEvents: <none>\n",
    "data:\n  app.properties: |\n    mail.smtp.password=@@\n    mail.host=m\n",
    "{\"kind\": \"ConfigMap\", \"data\": {\"application.yaml\": \"redis:\\n  password: @@\\n\"}}",
    "kind: ConfigMap\ndata:\n  a: b\n---\nkind: Secret\nmetadata: {name: x}\nstringData:\n  dsn: @@\n---\nkind: Service\n",
    "{\"kind\": \"SecretList\", \"items\": [{\"metadata\": {\"name\": \"a\"}, \"data\": {\"zz\": \"@@\"}}]}",
    "{'api_version': 'v1', 'data': {'blob': '@@'}, 'kind': None, 'type': 'Opaque'}\n",
    "kind: Secret\nstringData: {\n  a: @@,\n  b: two\n}\n",
    "tls.key: |\n  -----BEGIN PRIVATE KEY-----\n  @@\n  -----END PRIVATE KEY-----\n",
    "      serviceAccountToken: @@@@@@\n",
    "admin_password = \"@@\"\nendpoint = \"https://x\"\n",
    "    mysql_root_pw: @@\n",
    "$env:AZURE_DEVOPS_PAT = '@@'\n",
    "set DB_PASSWORD=@@\r\nset A=1\r\n",
    "[{\"value\": \"@@\", \"name\": \"JWT_SECRET\"}]",
    "{\"environment\": [{\"Name\": \"DB_PASSWORD\", \"Value\": \"@@\"}]}",
    "CREATE USER app WITH PASSWORD '@@';\n",
    "ALTER USER 'app'@'%' IDENTIFIED BY '@@';\n",
    "  basic_auth:\n    username: prom\n    password: @@\n",
    "global:\n  smtp_auth_password: @@\n",
    "  opsgenie_configs:\n  - api_key: @@\n",
    "    - url: https://hooks.example.com/services/@@\n",
    "  authorization:\n    credentials: @@\n",
    "mosquitto_sub -h mq -u iot -P @@ -t '#'\n",
    "az login --service-principal -u appid -p @@ --tenant t\n",
    "vault kv put secret/db password=@@\n",
    "====== Data ======\nKey         Value\n---         -----\npassword    @@\nusername    app\n",
    "Token:           @@\nExpires:         never\n",
    "│ API Key    │ @@ │\n",
    "{\"config\": {\"token_secret\": {\"inline_string\": \"@@\"}}}",
    "{\"db_password\": {\"sensitive\": true, \"type\": \"string\", \"value\": \"@@\"}}",
    "variable \"db_password\" {\n  type    = string\n  default = \"@@\"\n}\n",
    "token_secret:\n  inline_string: @@\n",
    "[{\"keyName\": \"key1\", \"permissions\": \"FULL\", \"value\": \"@@\"}]",
    "-        - name: API_TOKEN\n-          value: old\n+        - name: API_TOKEN\n+          value: @@\n",
    "  ~ master_password = \"old\" -> \"@@\"\n",
    "token = '''\n@@'''\n",
    "javax.net.ssl.keyStorePassword @@\n",
    "proxy_set_header X-Auth-Token @@;\n",
    "    HTTP_Passwd @@\n",
    "  config.api_key = \"@@\"\n",
    "command: [\"redis-server\",\"--requirepass\",\"@@\"]\n",
    "1764460800.1 [0 10.0.0.1:5000] \"AUTH\" \"@@\"\n",
    "addauth digest super:@@\n",
    "\"app\" \"@@\"\n",
    "<auth-user-pass>\nops\n@@\n</auth-user-pass>\n",
    "sentinel auth-pass mymaster @@\n",
    "rocommunity @@\n",
    "user default on >@@ ~* +@all\n",
    "PASSWORD elastic = @@\n",
    "  user admin insecure-password @@\n",
    "[smtp.example.com]:587 mailer:@@\n",
    "db2 connect to shop user app using @@\n",
    "aws configure set aws_secret_access_key @@\n",
    "sonar.login=@@\n",
    "Please use the following password to proceed to installation:\n\n@@\n\n",
    "{\"id\": \"https://kv.vault.azure.net/secrets/db\", \"value\": \"@@\"}",
    "{\"primaryKey\": \"@@=\"}",
    "rabbitmqctl add_user app @@\n",
    "Config { url: \"x\", password: Some(\"@@\") }\n",
];

/// Outputs without a secret.
const ORDINARY: &[&str] = &[
    "NAME  READY  STATUS\ntoken-service-5d4f7c9b8d-x2x1q  0/1  CrashLoopBackOff\npassword-reset-7b9d-abcde 1/1 Running\n",
    "      env:\n      - name: DB_PASSWORD\n        valueFrom:\n          secretKeyRef:\n            key: postgres-password\n            name: db-credentials\n",
    "      DB_PASSWORD:  <set to the key 'password' in secret 'db-creds'>  Optional: false\n",
    "  volumes:\n  - name: certs\n    secret:\n      defaultMode: 420\n      secretName: web-tls\n",
    "Volumes:\n  certs:\n    Type:        Secret (a volume populated by a Secret)\n    SecretName:  web-tls\n",
    "    - serviceAccountToken:\n        expirationSeconds: 3607\n        path: token\n",
    "{\"volumes\": [{\"projected\": {\"sources\": [{\"serviceAccountToken\": {\"expirationSeconds\": 3607, \"path\": \"token\"}}]}}]}",
    "  tls:\n  - hosts:\n    - a.example.com\n    secretName: a-tls-x7k2p\n",
    "Warning  FailedToRetrieveImagePullSecret  kubelet  Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.",
    "Failed to pull image \"registry.example.com/web:1.2\": failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://auth.example.com/token?scope=repository: 401 Unauthorized",
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    "MountVolume.SetUp failed for volume \"certs\" : secret \"web-tls\" not found",
    "Error: couldn't find key db-password in Secret shop/db-creds",
    "FATAL: password authentication failed for user \"app\"",
    "time=\"2026-11-01T00:00:00Z\" level=error msg=\"Unable to authenticate: token: expired at 2026-11-01\"",
    "error: You must be logged in to the server (the server has asked for the client to provide credentials)",
    "jwt: signature is invalid; token: malformed segments count",
    "authorization: denied by policy web-deny",
    "Error: token: permission denied; path: secret/data/db",
    "status:\n  conditions:\n  - message: 'could not get secret data from provider: key db/prod not found'\n    reason: SecretSyncedError\n",
    "NAME  STORE  REFRESH INTERVAL  STATUS\ndb-password  vault-backend  1h  SecretSyncedError\n",
    "  tokenAudience: sts.amazonaws.com\n  tokenExpiration: 86400\n",
    "    eks.amazonaws.com/role-arn: arn:aws:iam::123456789012:role/web\n    iam.gke.io/gcp-service-account: web@acme.iam.gserviceaccount.com\n",
    "uid: 4b1f0c6e-1c57-4b5e-9d0a-7c1f2c1f9e11\nresourceVersion: \"8812345\"\ngeneration: 4\n",
    "image: web@sha256:ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12\n",
    "    pod-template-hash: 5d4f7c9b8d\n    controller-revision-hash: web-7f9c8d6b54\n",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8\nAuthor: A\n",
    "  source:\n    targetRevision: 9fceb02d0ae598e95dc970b74767f19372d61af8\n    path: apps/token-service\n",
    "token-exchange: Missing\nsecret-rotator: OutOfSync\ncredentials-api: Synced\n",
    "{\"auth-token-svc\": \"Pending\", \"secret-sync\": \"Error\", \"password-ui\": \"CrashLoopBackOff\"}",
    "apiserver_authentication_token_cache_hits_total 1532\ncsi_secret_rotation_seconds_sum 12.5\n",
    "kube_secret_info{namespace=\"prod\",secret=\"db-creds\"} 1\n",
    "\"Secret not found\" logger=\"UnhandledError\" secret=\"kube-system/bootstrap-token-abcdef\"",
    "Usage: app login --token <token> --password <password> [--secret-file FILE]",
    "  --password string   password for basic auth\n  --token string      bearer token\n",
    "-p, --password string   Password\n-u, --username string   Username\n",
    "DB_PASSWORD=${DB_PASSWORD}\nAPI_KEY=$(cat /run/secrets/key)\nTOKEN={{ .Values.token }}\n",
    "POSTGRES_PASSWORD_FILE=/run/secrets/pg\nTOKEN_PATH=/var/run/secrets/token\nJWT_PUBLIC_KEY_PATH=/etc/jwt.pub\n",
    "password: ********\ntoken: [REDACTED]\nsecret: <redacted>\napi_key: sk-...x9Qa\npwd: (sensitive value)\n",
    "  + admin_password = (sensitive value)\n  + token = (known after apply)\n",
    "echo ***\n  token: ***\n",
    "password: ENC[AES256_GCM,data:9f8a7b6c5d4e,iv:abc=,tag:xyz==,type:str]\n",
    "password: null\ntoken: \"\"\nsecret: ~\nMYSQL_PASSWORD=\n",
    "requirePassword: true\npasswordAuth: false\nuseToken: yes\nsecretMounted: true\n",
    "max_tokens: 4096\nprompt_tokens: 812\ntokens_per_second: 55.2\ntotalTokens: 120000\n",
    "{\"usage\":{\"input_tokens\":1200,\"output_tokens\":88,\"cache_read_input_tokens\":900}}",
    "{\"nextToken\": \"AQICAHhX9k2LmPq8rT5vW7\", \"items\": []}",
    "continuationToken: eyJvZmZzZXQiOjEwMH0x9k2LmPq8rT5vW7\n",
    "{\"syncToken\": \"CPDAlvWDx70CEPDAlvWDx70CGAU=\", \"next_cursor\": \"bGltaXQ9MTAmb2Zmc2V0PTIw\"}",
    "  oidc_issuer: https://id.example.com/realms/shop\n  token_endpoint: https://id.example.com/token\n  authorization_endpoint: https://id.example.com/auth\n",
    "token_ttl: 768h\nsecret_id_ttl: 10m\npassword_min_length: 12\nsession_timeout: 30m\n",
    "cache_key: orders:v2:eu\npartition_key: customer_id\nprimaryKey: order_id\nsort_key: created_at\nrouting_key: orders.created\n",
    "  - key: node.kubernetes.io/not-ready\n    operator: Exists\n  topologyKey: kubernetes.io/hostname\n",
    "    - key: app.kubernetes.io/name\n      operator: In\n      values:\n      - token-service\n",
    "rules:\n- apiGroups: [\"\"]\n  resources: [\"secrets\",\"serviceaccounts/token\"]\n  verbs: [\"get\",\"list\"]\n",
    "Resources                   Non-Resource URLs  Resource Names  Verbs\nsecrets                     []                 []              [get list]\nserviceaccounts/token       []                 []              [create]\n",
    "ssh_public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKx9 ops@x\n",
    "certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\n",
    "    caBundle: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUR\n",
    "SHA256:x9k2LmPq8rT5vW7yZ1aB3cD4eF5gH6iJ7kL8mN9oP0q root@h (ED25519)\n",
    "\ttoken := os.Getenv(\"API_TOKEN\")\n\tcfg.Password = opts.Password\n",
    "  at com.acme.auth.TokenFilter.doFilter(TokenFilter.java:42)\n  at com.acme.PasswordEncoder.encode(PasswordEncoder.java:17)\n",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\ntrace_id=4bf92f3577b34da6a3ce929d0e0e4736\n",
    "X-Request-Id: 7f3c9a1b2d4e5f60718293a4b5c6d7e8\netag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\n",
    "docker run -p 8080:80 -u 1000:1000 -v /a:/b web:1.2\n",
    "kubectl port-forward svc/db 5432:5432 -n prod\nmkdir -p /opt/app/data\nssh -p 2222 host\n",
    "mysql -h db -P 3306 -u app shop\n",
    "registry.example.com:5000/team/web:1.2.3@sha256:cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34cd34",
    "password reset requested for ops@example.com\nuser: admin@corp.example\n",
    "LAST SEEN TYPE REASON OBJECT MESSAGE\n2m Warning BackOff pod/secret-sync-0 Back-off restarting failed container token-refresher\n",
    "INFO rotating credentials: old key retired, new key active since 10:00",
    "WARN password: must be at least 12 characters",
    "secret: reconciled successfully in 35ms",
    "level=warn msg=\"refresh token rotation disabled\" token_type=opaque grant=client_credentials",
    "passwordRotation: 0 3 * * 0\nsecretRefreshInterval: 15m0s\n",
    "  secretProviderClass: azure-kv-web\n  csi.storage.k8s.io/provisioner-secret-name: ceph-csi\n  csi.storage.k8s.io/node-stage-secret-namespace: rook-ceph\n",
    "{\"imagePullSecrets\": [{\"name\": \"regcred\"}], \"secrets\": [{\"name\": \"web-token-x7k2p\"}]}",
    "    encryptedData:\n      token: AgCx9k2LmPq8rT5vW7yZ1aB3cD4eF5gH6iJ7kL8mN9oP0q==\n",
    "secretGenerator:\n- name: db\n  envs: [db.env]\n  type: Opaque\n",
    "    - namespaceSelector:\n        matchLabels: {kubernetes.io/metadata.name: vault}\n",
    "  auth:\n    kubernetes:\n      mountPath: kubernetes\n      role: payments\n      secretRef: {name: vault-token, key: token}\n",
    "  bearer_token_file: /var/run/secrets/kubernetes.io/serviceaccount/token\n",
    "    clientConfig:\n      service: {name: token-webhook, namespace: auth, path: /validate}\n",
    "KC_HOSTNAME=id.example.com\nKC_DB_PASSWORD_FILE=/run/pw\nKC_FEATURES=token-exchange,admin-fine-grained-authz\n",
    "NAME            CPU(cores)   MEMORY(bytes)\ntoken-svc-0     250m         512Mi\n",
    "    nginx.ingress.kubernetes.io/auth-secret: shop/basic-auth\n    nginx.ingress.kubernetes.io/auth-realm: Log in\n",
    "Secret ETag W/\"33a64df551425fcc55e4d42a148795d9f25f89d4\"\n",
    "secret db-creds rotated at commit 9fceb02d0ae598e95dc970b74767f19372d61af8\n",
    "token web-5d4f7c9b8d-x2x1q\nssl_certificate_key /etc/nginx/tls.key;\n",
    "login: ops\nlast_login: 2026-11-30T00:00:00Z\nprimaryKey: order_id\n",
    "Secrets in namespace shop:\nweb-5d4f7c9b8d-x2x1q\n",
    "properties:\n  password:\n    type: string\n    default: changeme\n",
    "secrets    v1   true   Secret\ntokenreviews   authentication.k8s.io/v1   false   TokenReview\n",
];

/// First outputs, after which [`SECOND_OUTPUT`] must be readable, and whether they are of Secrets.
const FIRST_OUTPUTS: &[(&str, ContentHint)] = &[
    ("secret/db-creds\nsecret/postgres-credentials", ContentHint::Values),
    ("payments checkout Running CrashLoopBackOff production", ContentHint::Values),
    ("kind: Secret\nstringData:\n  database: payments\n  host: payments-db\n  mode: production", ContentHint::Objects),
    ("kind: Secret\nstringData:\n  app.properties: |\n    server.port=8080\n    mode=production", ContentHint::Objects),
    ("kind: Secret\nstringData:\n  password: payments\n  port: \"8080\"", ContentHint::Objects),
    ("DB_PASSWORD=checkout\nTOKEN=payments", ContentHint::Any),
    ("Authorization: Bearer payments", ContentHint::Any),
    ("secret: payments/db-creds not found; token: server closed connection", ContentHint::Any),
    ("{\"token\": \"CrashLoopBackOff\", \"secret\": \"payments/db-creds\"}", ContentHint::Any),
    ("app --token payments --password checkout", ContentHint::Any),
    ("postgres://app:payments@payments-db:5432/checkout", ContentHint::Any),
    ("auth:\n  existingSecret: postgres-credentials\n  password: production", ContentHint::Any),
];

const SECOND_OUTPUT: &str = "payments api-5d4f7c9b8d-x2x1q CrashLoopBackOff checkout Running production payments/db-creds \
    postgres-credentials payments-db server.port=8080";

#[test]
fn secrets_of_real_outputs_are_redacted() {
    for text in SECRETS {
        let redacted = RedactionVault::new(&[7; 32], "session")
            .redact_text(&text.replace("@@", VALUE), ContentHint::Any)
            .into_owned();
        assert!(!redacted.contains(VALUE), "{redacted}");
    }
}

#[test]
fn ordinary_outputs_are_unchanged() {
    for text in ORDINARY {
        let vault = RedactionVault::new(&[7; 32], "session");
        assert_eq!(vault.redact_text(text, ContentHint::Any), *text);
    }
}

#[test]
fn ordinary_words_stay_readable_in_a_session() {
    for (first, hint) in FIRST_OUTPUTS {
        let vault = RedactionVault::new(&[7; 32], "session");
        let _ = vault.redact_text(first, *hint);
        assert_eq!(vault.redact_text(SECOND_OUTPUT, ContentHint::Any), SECOND_OUTPUT, "after {first}");
    }
}

fn thread_cpu_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time)
}

#[test]
fn redaction_takes_linear_time() {
    for part in [
        "token=",
        "token: ",
        "-----BEGIN PRIVATE KEY-----\n",
        "sk-",
        "password='",
        "[\n",
        "{",
        "a: {b: ",
        "\"\\n",
        "cookie:",
        "a2=",
        "\"sensitive\": true ",
        "random_password ",
        "Authorization: Digest a=",
    ] {
        // CPU time of this thread, the least of two: other programs do not count.
        let cpu_time = |length: usize| {
            let text = part.repeat(length / part.len());
            let once = || {
                let started = thread_cpu_time();
                let _ = RedactionVault::new(&[7; 32], "session").redact_text(&text, ContentHint::Objects);
                thread_cpu_time().saturating_sub(started).as_secs_f64()
            };
            (0..2).map(|_| once()).fold(f64::INFINITY, f64::min)
        };
        // Quadratic time would be sixteen times as long.
        let (short, long) = (cpu_time(8_000), cpu_time(32_000));
        assert!(long < 0.2 || long < short * 12.0, "{part:?} took {short} s and {long} s");
    }
}

/// Outputs of real tools and forms of documents. A line `=== NAME HINT` begins an output. `%t20%` stands for a secret, and `~t20~`
/// for something else that was generated; [`generate`] describes the letter and the length in it. `␛`, `␀` and `␍` are control
/// characters.
const OUTPUTS_WITH_SECRETS: &str = include_str!("field_tests/outputs_with_secrets.txt");
/// Outputs in the same format that only look as if they had a secret.
const ORDINARY_OUTPUTS: &str = include_str!("field_tests/ordinary_outputs.txt");
/// Passwords that people make.
const PASSWORDS: &[&str] = &[
    "Sommer2024!",
    "hunter2hunter",
    "Tr0ub4dor&3",
    "P@ssw0rd-eu1",
    "qwerty12345",
    "letMeIn_99",
    "s3cr3t-Shop",
    "Winter#19",
    "gr33nTea7",
    "M0nkeyBars",
    "dragon77x",
    "changeIt42",
];

/// An output of a table.
struct SampleOutput {
    name: &'static str,
    hint: ContentHint,
    text: String,
    secrets: Vec<String>,
}

/// Reads a table, with values that are generated from a seed.
fn read_outputs(table: &'static str, seed: u64) -> Vec<SampleOutput> {
    let marks = regex::Regex::new("%([a-zA-Z])([0-9]*)%|~([a-zA-Z])([0-9]*)~").unwrap();
    let mut random = seed;
    let mut outputs = Vec::new();
    for output in table.strip_prefix("=== ").unwrap().split("\n=== ") {
        let (heading, template) = output.split_once('\n').unwrap();
        let (name, hint) = heading.split_once(' ').unwrap_or((heading, ""));
        let hint = match hint {
            "objects" => ContentHint::Objects,
            "values" => ContentHint::Values,
            _ => ContentHint::Any,
        };
        let template = template.replace('\u{241b}', "\u{1b}").replace('\u{2400}', "\0").replace('\u{240d}', "\r");
        let mut secrets = Vec::new();
        let text = marks.replace_all(&template, |captures: &regex::Captures<'_>| {
            let is_secret = captures.get(1).is_some();
            let group = |at| captures.get(at).map_or("", |group| group.as_str());
            let (kind, length) = if is_secret { (group(1), group(2)) } else { (group(3), group(4)) };
            let value = generate(kind, length.parse().unwrap_or_default(), &mut random);
            if is_secret {
                secrets.push(value.clone());
            }
            value
        });
        let text = format!("{text}\n");
        outputs.push(SampleOutput { name, hint, text, secrets });
    }
    outputs
}

/// Generates letters and digits (`t`; `s` also with `-` and `_`, `l` in lower case, `U` in capitals), hexadecimal digits (`h`),
/// digits (`d`), a UUID (`u`), base64 of letters and digits (`b`) or of as many bytes (`B`), or a password of a person (`p`).
fn generate(kind: &str, length: usize, random: &mut u64) -> String {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    let mut next = |bound: usize| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*random >> 33).unwrap() % bound
    };
    let mut pick = |letters: &str, length: usize| -> String {
        (0..length).map(|_| char::from(letters.as_bytes()[next(letters.len())])).collect()
    };
    let hexadecimal = "0123456789abcdef";
    match kind {
        "t" => pick(&LETTERS[..62], length),
        "s" => pick(LETTERS, length),
        "l" => pick(&LETTERS[..36], length),
        "U" => pick(&LETTERS[26..62], length),
        "h" => pick(hexadecimal, length),
        "d" => pick(&hexadecimal[..10], length),
        "u" => [8, 4, 4, 4, 12].map(|length| pick(hexadecimal, length)).join("-"),
        "b" => encodings::encode_base64(&pick(&LETTERS[..62], length)),
        "B" => {
            let bytes = pick(hexadecimal, length * 2);
            data_encoding::BASE64.encode(&data_encoding::HEXLOWER.decode(bytes.as_bytes()).unwrap())
        }
        "p" => PASSWORDS[next(PASSWORDS.len())].to_owned(),
        _ => panic!("unknown kind {kind}"),
    }
}

#[test]
fn secrets_in_outputs_of_tools_are_redacted() {
    let mut readable = Vec::new();
    for output in read_outputs(OUTPUTS_WITH_SECRETS, 20_261_130) {
        assert!(!output.secrets.is_empty(), "{}", output.name);
        let redacted = RedactionVault::new(&[7; 32], "session").redact_text(&output.text, output.hint).into_owned();
        let found = output.secrets.iter().filter(|secret| redacted.contains(*secret));
        readable.extend(found.map(|secret| format!("{}: {secret}", output.name)));
    }
    assert!(readable.is_empty(), "{readable:#?}");
}

#[test]
fn ordinary_outputs_of_tools_are_unchanged() {
    let mut changed = Vec::new();
    for output in read_outputs(ORDINARY_OUTPUTS, 20_261_130) {
        let vault = RedactionVault::new(&[7; 32], "session");
        if let Cow::Owned(redacted) = vault.redact_text(&output.text, output.hint) {
            changed.push(format!("{}: {redacted}", output.name));
        }
    }
    assert!(changed.is_empty(), "{changed:#?}");
}
