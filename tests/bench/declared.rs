//! A service as small as a manifest allows.

use manifest::{Source, Style};
use proto::v1;

use crate::agent::IMAGE;

pub(crate) fn service(name: &str, replicas: usize) -> v1::ServiceDeclaration {
    let text = format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  image: {IMAGE}
  resources: {{memory: 64Mi}}
"
    );
    let parsed = manifest::parse_all(&[Source { name: "bench", text: &text }]);
    let parsed = parsed.unwrap_or_else(|errors| panic!("{}", errors.render(&Style::PLAIN)));
    let manifest = parsed.into_iter().next().expect("one service");
    v1::ServiceDeclaration {
        service: Some((&manifest.key).into()),
        spec: Some((&manifest.spec).into()),
        ..Default::default()
    }
}
