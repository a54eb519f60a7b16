{{/* Describes the mount that holds a file: whether its volume is `durable` beyond the pod, and whether the mount is `perPod`. */}}
{{- define "k8sops.mountOfFile" -}}
{{- $mounts := list (dict "path" "/data" "durable" (eq .root.Values.store.backend "filesystem")) }}
{{- if .root.Values.audit.existingClaim }}
{{- $mounts = append $mounts (dict "path" "/var/log/k8sops" "durable" true) }}
{{- end }}
{{- range $mount := .root.Values.extraVolumeMounts }}
{{- $durable := false }}
{{- range $volume := $.root.Values.extraVolumes }}
{{- if and (eq $volume.name $mount.name) (not $mount.readOnly) }}
{{- /* A volume without a type is an emptyDir. */}}
{{- $durable = not (empty (omit $volume "name" "emptyDir" "ephemeral" "configMap" "secret" "projected" "downwardAPI")) }}
{{- end }}
{{- end }}
{{- $perPod := contains "$(" (replace "$$" "" (toString ($mount.subPathExpr | default ""))) }}
{{- $mounts = append $mounts (dict "path" (clean $mount.mountPath) "durable" $durable "perPod" $perPod) }}
{{- end }}
{{- $nearest := dict "path" "" }}
{{- range $mounts }}
{{- if and (hasPrefix (printf "%s/" .path) (clean $.file)) (gt (len .path) (len $nearest.path)) }}{{ $nearest = . }}{{ end }}
{{- end }}
{{- toJson $nearest }}
{{- end }}

{{/* Fails if the audit trail cannot be opened, or would be deleted with its pod. */}}
{{- define "k8sops.validateAudit" -}}
{{- $file := .Values.audit.log }}
{{- if and .Values.audit.existingClaim (not (hasPrefix "/var/log/k8sops/" $file)) }}
{{- fail "audit.existingClaim is mounted at /var/log/k8sops: set audit.log to a file in that folder" }}
{{- end }}
{{- if not (has $file (list "" "-")) }}
{{- $mount := include "k8sops.mountOfFile" (dict "root" . "file" $file) | fromJson }}
{{- if not $mount.durable }}
{{- fail (printf "audit.log: %s is not on a writable volume that outlives the pod: name a PersistentVolumeClaim in audit.existingClaim (it is mounted at /var/log/k8sops), mount your own volume there, or write to standard output with `-`" $file) }}
{{- end }}
{{- /* Any variable may distinguish the pods, so every reference is accepted. */}}
{{- $perPod := or $mount.perPod (contains "${" (replace "$${" "" $file)) }}
{{- if and (eq .Values.store.backend "redis") (not $perPod) }}
{{- fail (printf "audit.log: %s would be opened by several pods, and each pod needs its own file: put ${HOSTNAME} into the name, mount the volume with a subPathExpr, or write to standard output with `-`" $file) }}
{{- end }}
{{- end }}
{{- end }}
