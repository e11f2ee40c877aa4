//! Goldens of whole specs, and tables of the rules that users ask about. `UPDATE_GOLDENS=1` writes the goldens again.

use std::{collections::BTreeMap, fs, sync::Arc};

use model::{
    Bytes, Desired, Health, ImageRef, MilliCpu, Millis, ReplicaId, ReplicaTemplate, RestartPolicy,
    RevisionNumber, ServiceKey, Slot,
};
use oci_spec::runtime::LinuxSeccompAction;

use super::*;

pub(crate) fn container(name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.parse().unwrap(),
        image: ImageRef { reference: "shop/web:1".into(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources::default(),
        health: Health::default(),
        stop_signal: None,
        mounts: vec![],
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    }
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/bin/web".into()],
        cmd: vec!["serve".into()],
        env: vec!["PATH=/bin".into(), "MODE=image".into(), "WHARF_SLOT=9".into()],
        working_dir: "srv".into(),
        ..ImageConfig::default()
    }
}

pub(crate) fn assignment(main: &ContainerSpec) -> Assignment {
    let template = ReplicaTemplate {
        main: main.clone(),
        sidecars: vec![],
        init: vec![],
        ports: vec![],
        restart: RestartPolicy::default(),
        stop_grace: Millis(10_000),
        on_partition: model::OnPartition::Continue,
        restart_nonce: 0,
    };
    Assignment {
        replica: ReplicaId(7),
        service: ServiceKey { namespace: "shop".parse().unwrap(), name: "web".parse().unwrap() },
        slot: Slot::new(3).unwrap(),
        revision: RevisionNumber(2),
        desired: Desired::Running,
        template: Arc::new(template),
    }
}

fn compiled(container: &ContainerSpec, image: &ImageConfig, user: &User) -> Result<Spec, CompileError> {
    let assignment = assignment(container);
    let files = EtcFiles {
        hosts: "/run/wharf/replicas/7/hosts".into(),
        hostname: "/run/wharf/replicas/7/hostname".into(),
        resolv_conf: "/run/wharf/replicas/7/resolv.conf".into(),
    };
    let mut seccomp = LinuxSeccomp::default();
    seccomp.set_default_action(LinuxSeccompAction::ScmpActErrno);
    compile(&Source {
        assignment: &assignment,
        container,
        image,
        user,
        node: &"alpha".parse().unwrap(),
        files: &files,
        network_namespace: Path::new("/run/wharf/netns/7"),
        first_host_id: None,
        seccomp,
    })
}

fn root() -> User {
    User { uid: 0, gid: 0, additional_gids: vec![], home: "/root".into() }
}

fn check(name: &str, container: &ContainerSpec, user: &User) {
    let spec = compiled(container, &image(), user).unwrap();
    let mut json = serde_json::to_value(&spec).unwrap();
    // The spec's type keeps capabilities in no order.
    for set in json["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        set.as_array_mut().unwrap().sort_by_key(|name| name.to_string());
    }
    let text = serde_json::to_string_pretty(&json).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/compile/{name}.json"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "see {}", path.display());
}

#[test]
fn a_container_that_asks_for_nothing() {
    check("plain", &container("main"), &root());
}

#[test]
fn a_container_that_asks_for_everything() {
    let mut asks = container("main");
    asks.command = Some(vec!["/bin/sh".into()]);
    asks.args = Some(vec!["-c".into(), "sleep 1".into()]);
    asks.working_dir = Some("/tmp".into());
    asks.env = BTreeMap::from([("MODE".into(), "manifest".into()), ("HOME".into(), "/nowhere".into())]);
    asks.resources = Resources { cpu: Some(MilliCpu(250)), memory: Bytes(64 << 20), pids: 20 };
    asks.mounts = vec![
        Mount::HostPath { source: "/srv/data".into(), target: "/cache/data".into(), read_only: true },
        Mount::Tmpfs { target: "/cache".into(), size: Bytes(1 << 20) },
    ];
    asks.read_only_rootfs = true;
    asks.capabilities.drop.insert("ALL".into());
    asks.capabilities.add.insert("NET_ADMIN".into());
    let user = User { uid: 1000, gid: 100, additional_gids: vec![4, 33], home: "/srv/web".into() };
    check("full", &asks, &user);
}

#[test]
fn command_and_args_replace_what_they_do_in_kubernetes() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (command, args, expected) in [
        (None, None, "/bin/web serve"),
        (None, Some("check"), "/bin/web check"),
        (Some("/bin/sh -c"), None, "/bin/sh -c"),
        (Some("/bin/sh -c"), Some("true"), "/bin/sh -c true"),
        (None, Some(""), "/bin/web"),
    ] {
        let mut asks = container("main");
        (asks.command, asks.args) = (command.map(words), args.map(words));
        let spec = compiled(&asks, &image(), &root()).unwrap();
        let argv = spec.process().as_ref().unwrap().args().clone().unwrap();
        assert_eq!(argv, words(expected), "{command:?} {args:?}");
    }
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let refused = compiled(&container("main"), &ImageConfig::default(), &root()).unwrap_err().to_string();
    assert!(refused.contains("container main") && refused.contains("set `command`"), "{refused}");
    let mut asks = container("main");
    asks.capabilities.add.insert("FLY".into());
    let refused = compiled(&asks, &image(), &root()).unwrap_err().to_string();
    assert!(refused.contains("capability \"FLY\""), "{refused}");
}

#[test]
fn every_capability_of_the_model_is_known_to_the_spec() {
    for name in Capabilities::ALL {
        let mut asks = container("main");
        asks.capabilities.add.insert(name.into());
        assert!(compiled(&asks, &image(), &root()).is_ok(), "{name}");
    }
}

#[test]
fn a_stop_signal_that_there_is_not_is_refused_unless_the_manifest_says_another() {
    let signal = |manifest: Option<u8>, image_says: Option<&str>| {
        let container = ContainerSpec { stop_signal: manifest, ..container("main") };
        let image = ImageConfig { stop_signal: image_says.map(str::to_owned), ..image() };
        stop_signal(&container, &image).map_err(|error| error.to_string())
    };
    assert_eq!(signal(None, None), Ok(15));
    assert_eq!(signal(None, Some("SIGQUIT")), Ok(3));
    assert_eq!(signal(None, Some("SIGRTMIN+3")), Ok(37), "what images of systemd ask for");
    assert_eq!(signal(Some(2), Some("SIGBOGUS")), Ok(2));
    let refused = signal(None, Some("SIGBOGUS")).unwrap_err();
    for part in ["container main", "shop/web:1", "\"SIGBOGUS\"", "`stopSignal`"] {
        assert!(refused.contains(part), "{refused}");
    }
}
