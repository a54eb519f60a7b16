{{/* A secret in a value stands for everybody to read in a ConfigMap, in the Deployment, and in the release. */}}

{{/* Entries whose names say that they are secret must refer to one: names and reference are expressions. */}}
{{- define "k8sops.refuseLiterals" -}}
{{- range $name, $value := .entries | default dict }}
{{- if and (regexMatch $.names $name) (not (has $value (list nil ""))) (not (regexMatch $.reference (toString $value))) }}
{{- fail (printf "%s.%s is a secret that all who read the ConfigMap see: put it into a Secret, take it from there in extraEnv, and refer to it with ${NAME}" $.where $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "k8sops.refuseUrl" -}}
{{- if regexMatch "(?i)://[^/?#@]*:[^/?#@$]+@|[?&][^=&]*(token|key|secret|pass)[^=&]*=[^&$]" (toString .url) }}
{{- fail (printf "%s has a secret in it that all who read the ConfigMap see: %s" .where .instead) }}
{{- end }}
{{- end }}

{{- define "k8sops.refuseSecrets" -}}
{{- $v := .Values }}
{{- /* ${NAME} anywhere, with nothing to fall back on; $${NAME} is no reference. */}}
{{- $reference := "(^|[^$])\\$\\{[A-Za-z_][A-Za-z0-9_.]*(:-)?\\}" }}
{{- $headers := "(?i)^(proxy-)?authorization$|^cookie$|token|key|secret|password" }}
{{- $variables := "(?i)(token|key|secret|password)$|^otel_exporter_otlp_(traces_)?headers$" }}
{{- $refer := "put it into a Secret, take it from there in extraEnv, and refer to it with ${NAME}" }}
{{- range $v.mcp.servers }}
{{- $where := printf "mcp.servers: %s: " .name }}
{{- include "k8sops.refuseLiterals" (dict "entries" .headers "names" $headers "reference" $reference "where" (print $where "headers")) }}
{{- include "k8sops.refuseLiterals" (dict "entries" .env "names" $variables "reference" $reference "where" (print $where "env")) }}
{{- include "k8sops.refuseUrl" (dict "url" .url "where" (print $where "url") "instead" $refer) }}
{{- end }}
{{- range $id, $provider := $v.settings.providers | default dict }}
{{- $where := printf "settings.providers.%s" $id }}
{{- with $provider }}
{{- $key := toString (.api_key | default "") }}
{{- if and $key (not (regexMatch "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}$" $key)) }}
{{- fail (printf "%s.api_key is a secret in a ConfigMap: put it into the Secret of providers.existingSecret" $where) }}
{{- end }}
{{- include "k8sops.refuseLiterals" (dict "entries" .headers "names" $headers "reference" $reference "where" (print $where ".headers")) }}
{{- include "k8sops.refuseUrl" (dict "url" .base_url "where" (print $where ".base_url") "instead" $refer) }}
{{- end }}
{{- end }}
{{- $telemetry := pick ($v.settings.telemetry | default dict) "otlp_headers" }}
{{- include "k8sops.refuseLiterals" (dict "entries" $telemetry "names" "." "reference" $reference "where" "settings.telemetry") }}
{{- $instead := "name a Secret that holds the URL in store.redis.existingSecret" }}
{{- include "k8sops.refuseUrl" (dict "url" $v.store.redis.url "where" "store.redis.url" "instead" $instead) }}
{{- range $name, $_ := $v.env }}
{{- if regexMatch $variables $name }}
{{- fail (printf "env.%s looks like a secret in a ConfigMap: put it into a Secret and name that in providers.existingSecret or extraEnv" $name) }}
{{- end }}
{{- end }}
{{- range $where, $list := dict "extraEnv" $v.extraEnv "mcp.sidecar.env" $v.mcp.sidecar.env }}
{{- range $list }}
{{- if and (regexMatch $variables .name) .value (not (regexMatch "\\$\\([A-Za-z_]" (toString .value))) }}
{{- fail (printf "%s: %s looks like a secret, and its value stands in the Deployment: take it from a Secret with valueFrom" $where .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
