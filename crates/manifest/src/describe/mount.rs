//! Mounts: a `target` inside the container, and what is seen there: `tmpfs` or `hostPath`.
//!
//! A path of the host is read-only unless the manifest says otherwise: what is opened up is written down.

use model::{Bytes, Mount};

use crate::leaf::BOOLEAN;
use crate::leaf::amount::Memory;
use crate::leaf::word::PATH;
use crate::shape::Via;
use crate::shape::record::{Fields, Record, lens};

/// A mount as it is written: the kind is the name of a field.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    target: String,
    tmpfs: Option<Tmpfs>,
    host_path: Option<HostPath>,
}

#[derive(Clone, Debug)]
struct Tmpfs {
    size: Bytes,
}

#[derive(Clone, Debug)]
struct HostPath {
    path: String,
    read_only: bool,
}

pub(crate) fn mount() -> Via<Record<Written>, Mount> {
    let fields = Fields::<Written>::new()
        .required("target", "Where it is seen in the container: an absolute path.", PATH, lens!(target))
        .optional("tmpfs", "An empty file system in memory.", tmpfs(), lens!(tmpfs))
        .optional(
            "hostPath",
            "A file or directory of the node, which must exist.",
            host_path(),
            lens!(host_path),
        );
    let base = Written { target: String::new(), tmpfs: None, host_path: None };
    let shape = Record::new("Mount", "Something mounted beside the image.", base, fields);
    let from = |mount: &Mount, _| match mount.clone() {
        Mount::Tmpfs { target, size } => Written { target, tmpfs: Some(Tmpfs { size }), host_path: None },
        Mount::HostPath { source, target, read_only } => {
            Written { target, tmpfs: None, host_path: Some(HostPath { path: source, read_only }) }
        }
    };
    Via { shape: shape.exactly_one_of(&["tmpfs", "hostPath"]), into: Written::into_mount, from }
}

impl Written {
    fn into_mount(self) -> Option<Mount> {
        let Written { target, tmpfs, host_path } = self;
        match (tmpfs, host_path) {
            (Some(Tmpfs { size }), _) => Some(Mount::Tmpfs { target, size }),
            (None, Some(HostPath { path, read_only })) => {
                Some(Mount::HostPath { source: path, target, read_only })
            }
            (None, None) => None,
        }
    }
}

fn tmpfs() -> Record<Tmpfs> {
    let size = Memory { min: Bytes(4 << 10), max: Bytes(64 << 40) };
    let about = "How much fits in; what is in it counts against the container's memory.";
    let fields = Fields::<Tmpfs>::new().field("size", about, size, lens!(size));
    Record::new("Tmpfs", "An empty file system in memory.", Tmpfs { size: Bytes(64 << 20) }, fields)
}

fn host_path() -> Record<HostPath> {
    let fields = Fields::<HostPath>::new()
        .required("path", "On the node: an absolute path.", PATH, lens!(path))
        .field(
            "readOnly",
            "Whether the container can only read it. Writing needs `false`, and then old replicas stop before new ones \
             start, unless `update.order` says otherwise.",
            BOOLEAN,
            lens!(read_only),
        );
    let base = HostPath { path: String::new(), read_only: true };
    Record::new("HostPath", "A file or directory of the node.", base, fields)
}
