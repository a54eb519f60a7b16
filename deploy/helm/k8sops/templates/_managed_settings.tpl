{{/* The settings that the chart manages: the variable, its path in settings.yaml, and what to use instead. */}}
{{- define "k8sops.managedSettings" -}}
K8SOPS_CONFIG: ["", "put its contents into settings"]
K8SOPS_HOST: [server.host, "remove it, pods listen on all addresses"]
K8SOPS_PORT: [server.port, "remove it, pods listen on 8080, and the Service on service.port"]
K8SOPS_CORS_ORIGINS: [server.cors_origins, use cors.origins]
K8SOPS_SHUTDOWN_TIMEOUT: [server.shutdown_timeout, use shutdownTimeoutSeconds]
AUTH_MODE: [auth.mode, use auth.mode]
AUTH_ALLOW_INSECURE: [auth.allow_insecure, use auth.allowInsecure]
AUTH_METRICS: [auth.metrics, use auth.metrics]
AUTH_API_KEYS_FILE: [auth.api_keys_file, use auth.apiKeys]
AUTH_JWT_ISSUER: [auth.jwt.issuer, use auth.jwt.issuer]
AUTH_JWT_AUDIENCE: [auth.jwt.audience, use auth.jwt.audience]
AUTH_PROXY_USER_HEADER: [auth.proxy.user_header, use auth.proxy.userHeader]
AUTH_PROXY_SOURCES: [auth.proxy.sources, use auth.proxy.sources]
MEMORY_BACKEND: [memory.backend, use store.backend]
MEMORY_FILESYSTEM_PATH: [memory.path, "remove it, sessions are in /data, on the volume of store.filesystem"]
REDIS_URL: [memory.redis.url, use store.redis.url or store.redis.existingSecret]
REDIS_TOPOLOGY: [memory.redis.topology, use store.redis.topology]
REDIS_SENTINEL_MASTER: [memory.redis.sentinel_master, use store.redis.sentinelMaster]
REDIS_PREFIX: [memory.redis.prefix, use store.redis.prefix]
REDIS_CA_FILE: [memory.redis.ca_file, use store.redis.caSecret]
LOG_LEVEL: [log.level, use log.level]
LOG_FORMAT: [log.format, use log.format]
OTEL_EXPORTER_OTLP_ENDPOINT: [telemetry.otlp_endpoint, "use tracing.otlpEndpoint, where ${NAME} refers to a variable of extraEnv"]
AUDIT_LOG: [audit.log, use audit.log]
{{- end }}

{{/* Returns the value that the service gets for a setting, from extraEnv, else from env, else from settings. */}}
{{- define "k8sops.effectiveSetting" -}}
{{- $value := .root.Values.settings }}
{{- range splitList "." .path }}
{{- if kindIs "map" $value }}{{ $value = get $value . }}{{ else }}{{ $value = "" }}{{ end }}
{{- end }}
{{- with get .root.Values.env .variable }}{{ $value = . }}{{ end }}
{{- range .root.Values.extraEnv }}
{{- /* The contents of a Secret are not known here. */}}
{{- if eq .name $.variable }}{{ $value = .value }}{{ end }}
{{- end }}
{{- $value | default "" }}
{{- end }}

{{/* Fails if a managed setting is set elsewhere: that would bypass the checks, or have no effect. */}}
{{- define "k8sops.rejectManagedSettings" -}}
{{- $own := include "k8sops.managedSettings" . | fromYaml }}
{{- range $name, $_ := .Values.env }}
{{- with get $own $name }}{{ fail (printf "env.%s is set by the chart: %s" $name (last .)) }}{{ end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- $name := .name }}
{{- with get $own $name }}{{ fail (printf "extraEnv: %s is set by the chart: %s" $name (last .)) }}{{ end }}
{{- end }}
{{- range $own }}
{{- $found := $.Values.settings }}
{{- range splitList "." (first .) }}
{{- if kindIs "map" $found }}{{ $found = get $found . }}{{ else }}{{ $found = "" }}{{ end }}
{{- end }}
{{- if not (has $found (list nil "")) }}{{ fail (printf "settings.%s is set by the chart: %s" (first .) (last .)) }}{{ end }}
{{- end }}
{{- end }}
