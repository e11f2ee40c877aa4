//! The JSON documents of an image: index, manifest, configuration (OCI image spec 1.1 and Docker's v2 schema 2).
//!
//! Own structs and not oci-spec's, because documents come from every tool of the last ten years: `null` where a list
//! belongs, absent media types, keys the spec does not know. What is read here is used; the rest is left alone, and
//! the document itself is stored byte for byte, since its digest is the image's identity.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use reference::Digest;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Layer types that hold a plain, gzip or zstd tar. How one is compressed is told from its first bytes, not from here:
/// tools get the suffix wrong, and the digest of the uncompressed tar decides in the end anyway.
const LAYERS: [&str; 7] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
];

/// What a descriptor or a document says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Index,
    Manifest,
    Other,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// An index or a manifest before it is known which: the two differ in what they list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListOrManifest {
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<Descriptor>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexDocument {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// The image configuration: what to run and which uncompressed layers make the root file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) config: Option<RunConfig>,
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) diff_ids: Vec<Digest>,
}

/// The `config` object. Ports and volumes are sets written as maps to empty objects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    stop_signal: String,
}

/// `{}`, or `null` from tools that write the set carelessly; whatever is inside has no meaning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Empty;

impl Serialize for Empty {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(std::iter::empty::<((), ())>())
    }
}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Empty, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Empty)
    }
}

/// What an image says about running it. Empty means that the image says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// `""`, `user`, `uid`, `user:group` or `uid:gid`; see `Store::user`.
    pub user: String,
    pub working_dir: String,
    pub stop_signal: Option<String>,
    /// Such as `8080/tcp`, sorted.
    pub exposed_ports: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Paths that the image wants on a volume, sorted.
    pub volumes: Vec<String>,
}

impl From<RunConfig> for ImageConfig {
    fn from(run: RunConfig) -> ImageConfig {
        ImageConfig {
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env,
            user: run.user,
            working_dir: run.working_dir,
            stop_signal: Some(run.stop_signal).filter(|signal| !signal.is_empty()),
            exposed_ports: run.exposed_ports.into_keys().collect(),
            labels: run.labels,
            volumes: run.volumes.into_keys().collect(),
        }
    }
}

impl From<ImageConfig> for RunConfig {
    fn from(config: ImageConfig) -> RunConfig {
        RunConfig {
            user: config.user,
            exposed_ports: config.exposed_ports.into_iter().map(|port| (port, Empty)).collect(),
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            volumes: config.volumes.into_iter().map(|path| (path, Empty)).collect(),
            working_dir: config.working_dir,
            labels: config.labels,
            stop_signal: config.stop_signal.unwrap_or_default(),
        }
    }
}

impl Descriptor {
    pub(crate) fn kind(&self) -> DocumentKind {
        match self.media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => DocumentKind::Index,
            OCI_MANIFEST | DOCKER_MANIFEST => DocumentKind::Manifest,
            _ => DocumentKind::Other,
        }
    }

    pub(crate) fn is_layer(&self) -> bool {
        LAYERS.contains(&self.media_type.as_str())
    }

    pub(crate) fn is_config(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

/// The architecture of this host in the words of the OCI spec (Go's GOARCH).
pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_full_of_nulls_is_an_empty_config() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":null,"Env":null,"Cmd":null,
            "Entrypoint":null,"Volumes":null,"ExposedPorts":null,"Labels":null,"OnBuild":null,"WorkingDir":""},
            "rootfs":{"type":"layers","diff_ids":null},"history":[]}"#;
        let document: ConfigDocument = serde_json::from_str(text).unwrap();
        assert_eq!(ImageConfig::from(document.config.unwrap()), ImageConfig::default());
    }

    #[test]
    fn a_config_survives_being_written_and_read() {
        let config = ImageConfig {
            entrypoint: vec!["/bin/wharf".into()],
            cmd: vec!["hello".into()],
            env: vec!["PATH=/bin".into()],
            user: "1000:1000".into(),
            working_dir: "/srv".into(),
            stop_signal: Some("SIGINT".into()),
            exposed_ports: vec!["8080/tcp".into()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            volumes: vec!["/data".into()],
        };
        let text = serde_json::to_string(&RunConfig::from(config.clone())).unwrap();
        assert!(text.contains(r#""ExposedPorts":{"8080/tcp":{}}"#), "{text}");
        assert_eq!(ImageConfig::from(serde_json::from_str::<RunConfig>(&text).unwrap()), config);
    }
}
