//! What to say to people who write a manifest from memory, and the memory is of another system.
//!
//! Fields of Compose, Swarm and Kubernetes are known here by name only to say what wharf calls them.

use crate::suggest;

/// The fix for a field that the record does not have.
pub(crate) fn for_unknown(record: &str, key: &str, known: &[&str]) -> String {
    let here = |(records, name, _): &&(&str, &str, &str)| {
        *name == key && (records.is_empty() || records.split(' ').any(|r| r == record))
    };
    if let Some((_, _, hint)) = HINTS.iter().find(here) {
        return (*hint).to_owned();
    }
    if let Some(near) = suggest::nearest(key, known) {
        return format!("did you mean `{near}`?");
    }
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("it can have {}", known.join(", "))
}

/// The fix where a record is written as a single value or a list.
pub(crate) fn for_not_a_map(record: &str) -> Option<&'static str> {
    NOT_A_MAP.iter().find(|(name, _)| *name == record).map(|(_, hint)| *hint)
}

/// The fix for a word of another system where one of a few is wanted.
pub(crate) fn for_word(word: &str) -> Option<&'static str> {
    let known = WORDS.iter().find(|(foreign, _)| foreign.eq_ignore_ascii_case(word));
    known.map(|(_, ours)| *ours)
}

const WORDS: [(&str, &str); 7] = [
    ("unless-stopped", "always"),
    ("any", "always"),
    ("no", "never"),
    ("none", "never"),
    ("revert", "rollback"),
    ("RollingUpdate", "start-first"),
    ("Recreate", "stop-first"),
];

const NOT_A_MAP: [(&str, &str); 18] = [
    ("Restart", "write `restart: { policy: always }`"),
    ("Port", "write `- { name: http, port: 8080, publish: 80 }`"),
    ("Mount", "write `- { target: /data, hostPath: { path: /srv/data } }`"),
    ("Tmpfs", "write `tmpfs: { size: 64Mi }`"),
    ("HostPath", "write `hostPath: { path: /srv/data }`"),
    ("HttpProbe", "write `http: { port: http, path: /healthz }`"),
    ("TcpProbe", "write `tcp: { port: http }`"),
    ("ExecProbe", "write `exec: { command: [program, argument] }`"),
    ("Sidecar", "each sidecar is a map: `- name: metrics`, and below it `image: ...`"),
    ("InitContainer", "each init container is a map: `- name: prepare`, and below it `image: ...`"),
    ("Manifest", "it begins with `apiVersion: wharf/v1` and `kind: Service`"),
    ("Metadata", "write `metadata: { name: web }`"),
    ("Resources", "write `resources: { memory: 64Mi }`"),
    ("Health", "write `health: { readiness: { tcp: { port: http } } }`, or remove the line"),
    ("Update", "write `update: { order: start-first }`"),
    ("Placement", "write `placement: { nodes: { disk: ssd }, spread: zone }`"),
    ("NodeLoss", "write `nodeLoss: { replaceAfter: 30s }`"),
    ("Capabilities", "write `capabilities: { add: [NET_RAW], drop: [ALL] }`"),
];

/// The records in which a field is met (none: any), its name, and what to do.
const HINTS: &[(&str, &str, &str)] = &[
    // Another system's document.
    (
        "Manifest",
        "services",
        "this looks like a Compose file: each service is a document of its own, with `kind: Service`",
    ),
    ("Manifest", "version", "the version of the format is `apiVersion: wharf/v1`"),
    ("Manifest", "name", "the name goes into `metadata.name`"),
    ("Manifest", "namespace", "the namespace goes into `metadata.namespace`"),
    ("Manifest", "status", "what was observed is not part of a manifest: remove it"),
    ("Manifest", "data", "wharf has no config objects: use `spec.env`, or a `hostPath` mount"),
    // Of the replica, written at a container.
    ("Sidecar InitContainer", "ports", "ports belong to the replica: list them in `spec.ports`"),
    ("Sidecar InitContainer", "restart", "all containers of a replica have one rule: `spec.restart`"),
    ("Sidecar InitContainer", "stopGrace", "it is of the whole replica: `spec.stopGrace`"),
    ("InitContainer", "health", "an init container is done when it exits with 0; it has no probes"),
    // Kubernetes.
    (
        "Service",
        "containers",
        "the main container's fields stand in `spec` itself, others in `spec.sidecars`",
    ),
    (
        "Service",
        "template",
        "there is no template: the fields of the pod and its main container stand in `spec` itself",
    ),
    ("Service", "selector", "remove it: a service always means its own replicas"),
    ("Service", "type", "remove it: a port with `publish` is reached on every node"),
    ("Service", "strategy", "it is called `update` here, with `maxSurge` and `maxUnavailable`"),
    ("Update", "rollingUpdate", "`maxSurge` and `maxUnavailable` stand in `update` itself"),
    ("Update", "type", "remove it; `order: stop-first` stops old replicas before new ones start"),
    ("Service", "minReadySeconds", "write `update: { minReady: 10s }`"),
    ("Service", "progressDeadlineSeconds", "write `update: { progressDeadline: 10m }`"),
    ("Service", "revisionHistoryLimit", "remove it: the last 10 revisions are kept"),
    ("Service", "terminationGracePeriodSeconds", "write `stopGrace: 30s`"),
    ("Service", "restartPolicy", "write `restart: { policy: always }`, or `on-failure` or `never`"),
    ("", "livenessProbe", "write `health: { liveness: ... }`"),
    ("", "readinessProbe", "write `health: { readiness: ... }`"),
    ("", "startupProbe", "write `health: { startup: ... }`"),
    ("", "httpGet", "it is called `http`: `http: { port: http, path: /healthz }`"),
    ("", "tcpSocket", "it is called `tcp`: `tcp: { port: http }`"),
    ("", "grpc", "there is no gRPC probe; use `tcp`, or `exec` with a client in the image"),
    ("", "periodSeconds", "write `interval: 10s`"),
    ("", "timeoutSeconds", "write `timeout: 1s`"),
    ("", "successThreshold", "write `successes`"),
    ("", "failureThreshold", "write `failures`"),
    ("", "initialDelaySeconds", "use a `startup` probe: the others wait until it has succeeded"),
    ("HttpProbe", "scheme", "probes speak plain HTTP; use `tcp` or `exec` for TLS"),
    ("Port", "containerPort", "it is called `port`"),
    ("Port", "targetPort", "it is called `port`; the node's port is `publish`"),
    ("Port", "hostPort", "it is called `publish`, and is balanced over all ready replicas"),
    ("Port", "nodePort", "it is called `publish`"),
    ("Resources", "limits", "`cpu`, `memory` and `pids` stand in `resources` itself; they limit and reserve"),
    (
        "Resources",
        "requests",
        "`cpu`, `memory` and `pids` stand in `resources` itself; they limit and reserve",
    ),
    ("", "securityContext", "its parts are called `user`, `capabilities` and `readOnlyRootfs`"),
    ("", "volumeMounts", "mounts are said whole in `mounts`: a `target` and a `hostPath` or `tmpfs`"),
    ("", "imagePullPolicy", "remove it: an image is resolved to its digest when the manifest is applied"),
    ("", "envFrom", "write the variables out in `env`"),
    ("", "lifecycle", "there are no hooks: handle the stop signal in the program, within `stopGrace`"),
    ("", "nodeSelector", "write `placement: { nodes: { disk: ssd } }`"),
    ("", "nodeName", "write `placement: { nodes: { wharf/name: host-1 } }`"),
    ("", "affinity", "write `placement: { nodes: { disk: ssd } }`, or `placement: { spread: zone }`"),
    ("", "topologySpreadConstraints", "write `placement: { spread: zone }`"),
    (
        "",
        "tolerations",
        "nodes have no taints: label those that are meant, and write `placement: { nodes: ... }`",
    ),
    ("", "hostNetwork", "replicas have a network of their own; use `publish` on a port"),
    // Compose, Swarm and Nomad.
    ("Service", "disconnect", "write `nodeLoss: { replaceAfter: 30s }`"),
    ("Placement", "constraints", "it is called `nodes`, and is a map: `nodes: { disk: ssd }`"),
    ("Placement", "preferences", "write `spread: zone`"),
    ("Service", "constraint", "write `placement: { nodes: { disk: ssd } }`"),
    ("Service", "spread", "it belongs to `placement`: `placement: { spread: zone }`"),
    ("", "environment", "it is called `env`, and is a map: `env: { NAME: value }`"),
    ("", "env_file", "write the variables out in `env`"),
    ("", "volumes", "it is called `mounts`: `- { target: /data, hostPath: { path: /srv/data } }`"),
    ("", "entrypoint", "it is called `command`, and is a list; what Compose calls `command` is `args`"),
    ("", "deploy", "`replicas`, `update`, `restart` and `resources` stand in `spec` itself"),
    ("", "healthcheck", "it is called `health`, with `startup`, `readiness` and `liveness` probes"),
    ("", "working_dir", "it is called `workingDir`"),
    ("", "read_only", "it is called `readOnlyRootfs`"),
    ("", "cap_add", "write `capabilities: { add: [...] }`"),
    ("", "cap_drop", "write `capabilities: { drop: [...] }`"),
    ("", "stop_grace_period", "it is called `stopGrace`"),
    ("", "build", "wharf runs images and does not build them; load one with `wharf image load`"),
    (
        "",
        "depends_on",
        "there is no start order between services; let the program retry, or use a `startup` probe",
    ),
    ("", "networks", "remove it: every replica has an address of its own"),
    ("", "container_name", "remove it: replicas are named after the service and their slot"),
    ("", "privileged", "no container has all rights; add what it needs to `capabilities`"),
    ("", "logging", "remove it: logs are kept on the node; see `wharf logs`"),
    ("", "secrets", "there are no secrets yet; mount a file of the node with `hostPath`"),
    ("", "configs", "there are no config objects yet; mount a file of the node with `hostPath`"),
    (
        "Service Sidecar InitContainer",
        "tmpfs",
        "it is a mount: `mounts: [{ target: /tmp, tmpfs: { size: 64Mi } }]`",
    ),
    ("Service", "labels", "labels belong to `metadata`"),
    ("Service", "annotations", "annotations belong to `metadata`"),
    ("Service Sidecar InitContainer", "cpu", "it belongs to `resources`"),
    ("Service Sidecar InitContainer", "memory", "it belongs to `resources`"),
    ("Service Sidecar InitContainer", "pids", "it belongs to `resources`"),
    ("Service Sidecar InitContainer", "readiness", "it belongs to `health`"),
    ("Service Sidecar InitContainer", "liveness", "it belongs to `health`"),
    ("Service Sidecar InitContainer", "startup", "it belongs to `health`"),
    ("Mount", "readOnly", "it belongs to `hostPath`: `hostPath: { path: ..., readOnly: true }`"),
    ("Mount", "source", "write `hostPath: { path: ... }`"),
    ("Mount", "size", "write `tmpfs: { size: 64Mi }`"),
    ("Mount", "type", "say what it is by its field: `tmpfs: { size: 64Mi }` or `hostPath: { path: ... }`"),
    ("Mount", "mountPath", "it is called `target`"),
];
