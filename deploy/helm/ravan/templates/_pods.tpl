{{- /* What the pods of coordinators and workers have in common. */ -}}
{{- define "ravan.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Where the whole volume were changed at every start, keys would be readable to the group, and are refused then.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ravan.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ravan.container" -}}
image: {{ include "ravan.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "ravan.containerSecurity" . | nindent 2 }}
{{- end -}}

{{- define "ravan.environment" -}}
- name: RAVAN_CONFIG
  value: /etc/ravan/coordinator.toml
- name: RAVAN_FOLDER
  value: /var/lib/ravan/hq
{{- end -}}

{{- define "ravan.mounts" -}}
- name: data
  mountPath: /var/lib/ravan
- name: config
  mountPath: /etc/ravan
  readOnly: true
- name: scratch
  mountPath: /tmp
{{- if .Values.database.existingSecret }}
- name: database
  mountPath: /run/secrets/ravan/database
  readOnly: true
{{- end }}
{{- if .Values.objects.existingSecret }}
- name: objects
  mountPath: /run/secrets/ravan/objects
  readOnly: true
{{- end }}
{{- end -}}

{{- define "ravan.volumes" -}}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "ravan.claim" . }}
- name: config
  configMap:
    name: {{ include "ravan.fullname" . }}
- name: scratch
  emptyDir: {}
{{- if .Values.database.existingSecret }}
- name: database
  secret:
    secretName: {{ .Values.database.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.database.secretKey }}
        path: password
{{- end }}
{{- if .Values.objects.existingSecret }}
- name: objects
  secret:
    secretName: {{ .Values.objects.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.objects.secretKey }}
        path: secret
{{- end }}
{{- end -}}

{{- /* Called with a dictionary: the part's own values as `part`, the chart as `root`. */ -}}
{{- define "ravan.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "ravan.podSecurity" .root | nindent 2 }}
# Longer than calls or a task in progress may take to end.
terminationGracePeriodSeconds: 30
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "ravan.volumes" .root | nindent 2 }}
{{- end -}}
