{{/* Whether a file outlives the pod: `true` if the mount that it is under is of a volume that does. */}}
{{- define "k8sops.stays" -}}
{{- $mounts := list (dict "path" "/data" "stays" (eq .root.Values.store.backend "filesystem")) }}
{{- if .root.Values.audit.existingClaim }}
{{- $mounts = append $mounts (dict "path" "/var/log/k8sops" "stays" true) }}
{{- end }}
{{- range $mount := .root.Values.extraVolumeMounts }}
{{- $stays := false }}
{{- range $volume := $.root.Values.extraVolumes }}
{{- if and (eq $volume.name $mount.name) (not $mount.readOnly) }}
{{- /* A volume of no kind is an emptyDir. */}}
{{- $stays = not (empty (omit $volume "name" "emptyDir" "ephemeral" "configMap" "secret" "projected" "downwardAPI")) }}
{{- end }}
{{- end }}
{{- $mounts = append $mounts (dict "path" (clean $mount.mountPath) "stays" $stays) }}
{{- end }}
{{- $nearest := dict "path" "" "stays" false }}
{{- range $mounts }}
{{- if and (hasPrefix (printf "%s/" .path) (clean $.file)) (gt (len .path) (len $nearest.path)) }}{{ $nearest = . }}{{ end }}
{{- end }}
{{- $nearest.stays }}
{{- end }}

{{/* A trail that cannot be opened, or goes with its pod, is none. */}}
{{- define "k8sops.refuseAudit" -}}
{{- $file := .Values.audit.log }}
{{- if and .Values.audit.existingClaim (not (hasPrefix "/var/log/k8sops/" $file)) }}
{{- fail "audit.existingClaim is mounted at /var/log/k8sops: name a file in there in audit.log" }}
{{- end }}
{{- if not (has $file (list "" "-")) }}
{{- if ne (include "k8sops.stays" (dict "root" . "file" $file)) "true" }}
{{- fail (printf "audit.log: %s is on no volume that can be written and outlives the pod: name a PersistentVolumeClaim in audit.existingClaim (it is mounted at /var/log/k8sops), mount a volume of yours there, or write to standard output with `-`" $file) }}
{{- end }}
{{- if and (eq .Values.store.backend "redis") (not (contains "${HOSTNAME}" $file)) }}
{{- fail (printf "audit.log: %s would be opened by several pods, and each needs a file of its own: put ${HOSTNAME} into the name, or write to standard output with `-`" $file) }}
{{- end }}
{{- end }}
{{- end }}
