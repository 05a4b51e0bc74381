{{- define "ravan.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ravan.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ravan.labels" -}}
{{ include "ravan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ravan.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "ravan.claim" -}}
{{ .Values.data.existingClaim | default (printf "%s-data" (include "ravan.fullname" .)) }}
{{- end -}}

{{- /* Where one pod of the StatefulSet is found: below this name. */ -}}
{{- define "ravan.peers" -}}
{{ include "ravan.fullname" . }}-peers.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- /* Every name of the server certificate, as JSON: the outer ones first. */ -}}
{{- define "ravan.hosts" -}}
{{- $first := required "Set `hosts` to the names by which agents reach the coordinator, the first for join strings." (first .Values.hosts) -}}
{{- $name := include "ravan.fullname" . -}}
{{- $hosts := list -}}
{{- range .Values.hosts }}{{ $hosts = append $hosts . }}{{ end -}}
{{- $hosts = append $hosts (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- $hosts = append $hosts (printf "%s-http.%s.svc" $name .Release.Namespace) -}}
{{- /* As many as there may ever be: a certificate that has them need not be made anew for another replica. */ -}}
{{- range $number := until 3 }}
{{- $hosts = append $hosts (printf "%s-%d.%s" $name $number (include "ravan.peers" $)) -}}
{{- end -}}
{{- toJson $hosts -}}
{{- end -}}

{{- /* What no schema can say: which values go together. */ -}}
{{- define "ravan.check" -}}
{{- $several := or (gt (int .Values.coordinator.replicas) 1) (gt (int .Values.worker.replicas) 0) -}}
{{- if and $several (not .Values.database.url) -}}
{{- fail "More than one coordinator, and workers, need PostgreSQL: set `database.url`, or `coordinator.replicas` to 1 and `worker.replicas` to 0." -}}
{{- end -}}
{{- if and $several (not .Values.data.existingClaim) (ne .Values.data.accessMode "ReadWriteMany") -}}
{{- fail "More than one coordinator, and workers, share the data folder: set `data.accessMode` to ReadWriteMany with a `data.storageClass` that can do that." -}}
{{- end -}}
{{- if ne (empty .Values.objects.accessKeyId) (empty .Values.objects.existingSecret) -}}
{{- fail "A bucket's key and its secret go together: set both `objects.accessKeyId` and `objects.existingSecret`, or neither." -}}
{{- end -}}
{{- if and (eq .Values.service.type "NodePort") (or (lt (int .Values.ports.enrolment) 30000) (lt (int .Values.ports.site) 30000)) -}}
{{- fail "With `service.type` NodePort set `ports.enrolment` and `ports.site` to ports of the nodes, 30000 to 32767: join strings hold them." -}}
{{- end -}}
{{- end -}}
