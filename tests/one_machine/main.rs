//! One machine, end to end: manifests in, healthy containers out, through the program as users run it.

mod crashes;
mod errors;
mod examples;
mod hostile;
mod images;
mod isolation;
mod nodes;
mod readme;
mod restarts;
mod rollouts;
mod settings;

/// A service of the demo image. `changes` is YAML for the end of `spec`, `env` for its environment.
fn hello(replicas: u32, image: &str, env: &str, changes: &str) -> String {
    let env = if env.is_empty() { "{}".to_owned() } else { format!("{{{env}}}") };
    format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: web}}
spec:
  replicas: {replicas}
  image: {image}
  env: {env}
  ports: [{{name: http, port: 8080, publish: 18080}}]
  resources: {{memory: 64Mi, pids: 64, cpu: 200m}}
  health:
    readiness: {{http: {{port: http, path: /healthz}}, interval: 100ms}}
{changes}"
    )
}

const ONE: &str = "wharf.local/hello:1";
const TWO: &str = "wharf.local/hello:2";
const PORT: u16 = 18080;
