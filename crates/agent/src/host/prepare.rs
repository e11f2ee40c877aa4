//! Making a replica startable: images unpacked, specs compiled, a sandbox with an address, its files.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use image::{Prepared, User};
use model::{Assignment, ContainerSpec, ReplicaId};

use super::{
    Host, HostError, Sandbox, Startable, chain,
    fault::{judge, of_node},
    guard::GuardError,
    make_dir,
};
use crate::{
    compile::{self, CompileError},
    core::Setback,
};

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("container {container}: the image {reference} has no digest; apply the service again")]
    NoDigest { container: String, reference: String },
    #[error("the image {reference} ({digest}) is not on this node; load it with `wharf image load`")]
    NotHere { reference: String, digest: String },
    #[error("container {container}: the image {reference} cannot be used")]
    Image { container: String, reference: String, source: Box<image::Error> },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error("cannot find out whether it can have a user namespace")]
    Users(#[source] runtime::StartError),
    #[error("no address")]
    Address(#[from] network::AddressError),
    #[error("no network namespace")]
    Network(#[from] network::Error),
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Failure {
    /// Whether trying again in a while can help, and whose fault it is if not.
    fn setback(&self) -> Setback {
        match self {
            Failure::NoDigest { .. } | Failure::NotHere { .. } | Failure::Compile(_) => {
                Setback::of_replica(chain(self))
            }
            Failure::Image { source, .. } => match source.cause() {
                // A full disk gets room again.
                image::Error::Io(_) | image::Error::Unpack { .. } | image::Error::Panicked { .. } => {
                    of_node(self)
                }
                _ => judge(self),
            },
            Failure::Guard(source) => match source {
                GuardError::Own { .. } => Setback::of_replica(chain(self)),
                GuardError::Unreadable { .. } => of_node(self),
            },
            Failure::Users(_) | Failure::Address(_) | Failure::Network(_) | Failure::Host(_) => of_node(self),
        }
    }
}

impl Host {
    /// Idempotent. `address` is the one that the replica had before, if it had one.
    pub(crate) fn prepare(
        &self,
        assignment: &Assignment,
        address: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, Setback> {
        self.make_sandbox(assignment, address)
            .map(|sandbox| sandbox.address)
            .map_err(|failure| failure.setback())
    }

    /// What it takes to start the replica's containers; made again if this agent does not have it yet.
    pub(super) fn startable(
        &self,
        assignment: &Assignment,
        address: Ipv4Addr,
    ) -> Result<Arc<Sandbox>, Setback> {
        match self.sandbox(assignment.replica) {
            Some(sandbox) => Ok(sandbox),
            None => self.make_sandbox(assignment, Some(address)).map_err(|failure| failure.setback()),
        }
    }

    fn make_sandbox(
        &self,
        assignment: &Assignment,
        address: Option<Ipv4Addr>,
    ) -> Result<Arc<Sandbox>, Failure> {
        let replica = assignment.replica;
        self.guard_host_paths(&assignment.template)?;
        let mut images = HashMap::new();
        for container in assignment.template.containers() {
            let image = self.prepare_image(container)?;
            let user = self.user(container, &image)?;
            images.insert(container.name.clone(), (image, user));
        }
        let address = self.hold_address(replica, address)?;
        let everybody: Vec<&User> = images.values().map(|(_, user)| user).collect();
        let place = (self.subnet, address);
        let users = self.users.users(&self.runtime, assignment, &everybody, place).map_err(Failure::Users)?;
        let sandbox = self.network.create_sandbox(&replica.to_string(), address)?;
        // Also for whoever follows the logs of a replica that has not started yet.
        make_dir(&self.log_dir(&assignment.service, replica))?;
        let files = self.write_etc(assignment, address)?;
        let mut containers = HashMap::new();
        for container in assignment.template.containers() {
            let Some((image, user)) = images.remove(&container.name) else { continue };
            let spec = compile::compile(&compile::Source {
                assignment,
                container,
                image: &image.config,
                user: &user,
                node: &self.config.name,
                files: &files,
                network_namespace: &sandbox.netns,
                first_host_id: users.first_id(),
                seccomp: seccomp(container),
            })?;
            let stop_signal = compile::stop_signal(container, &image.config)?;
            let startable = Startable { spec, init: container.init, stop_signal, image };
            containers.insert(container.name.clone(), startable);
        }
        let (service, slot) = (assignment.service.clone(), assignment.slot);
        let sandbox = Arc::new(Sandbox { service, slot, address, containers, users });
        let mut known = self.known();
        known.live.insert(replica);
        known.sandboxes.insert(replica, Arc::clone(&sandbox));
        Ok(sandbox)
    }

    fn hold_address(&self, replica: ReplicaId, address: Option<Ipv4Addr>) -> Result<Ipv4Addr, Failure> {
        let id = replica.to_string();
        if let Some(address) = address.filter(|address| !self.subnet.contains(*address))
            && self.network.sandboxes()?.contains(&(id.clone(), address))
        {
            // Of a subnet that the node had before: it stays where it is.
            self.hold(&id, address);
            return Ok(address);
        }
        let addresses = &mut self.known().addresses;
        // An address of before that is not free any more, or outside of a changed subnet, is no reason to fail.
        match address.filter(|address| addresses.reserve(&id, *address).is_ok()) {
            Some(address) => Ok(address),
            None => Ok(addresses.allocate(&id)?),
        }
    }

    fn prepare_image(&self, container: &ContainerSpec) -> Result<Prepared, Failure> {
        let reference = || container.image.reference.clone();
        let name = || container.name.to_string();
        let digest = container.image.digest.as_ref();
        let digest = digest.ok_or_else(|| Failure::NoDigest { container: name(), reference: reference() })?;
        let not_here = || Failure::NotHere { reference: reference(), digest: digest.to_string() };
        self.images.prepare(digest).map_err(|source| match source.cause() {
            image::Error::NoSuchImage { .. } => not_here(),
            _ => Failure::Image { container: name(), reference: reference(), source: Box::new(source) },
        })
    }

    /// Whom the container runs as: what the manifest or the image says, as the image's own files resolve it.
    fn user(&self, container: &ContainerSpec, image: &Prepared) -> Result<User, Failure> {
        let user = container.user.as_deref().unwrap_or(&image.config.user);
        self.images.user(image, user).map_err(|source| Failure::Image {
            container: container.name.to_string(),
            reference: container.image.reference.clone(),
            source: Box::new(source),
        })
    }
}

fn seccomp(container: &ContainerSpec) -> oci_spec::runtime::LinuxSeccomp {
    let capabilities: Vec<&str> = container.capabilities.effective().into_iter().collect();
    runtime::seccomp::default_profile(&capabilities)
}
