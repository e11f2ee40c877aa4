//! The network of one host: open it, make and remove sandboxes, publish ports, tear it all down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Config, Peer, Protocol, Published, Subnet,
    cable::{Connected, Maker, Warm, fit},
    config::Names,
    conntrack::{self, Scope},
    error::Error,
    firewall::{
        Firewall, Ground, Publication,
        services::{Service, Services},
        tunnel::Gate,
    },
    host,
    namespace::{self, is_pinned, unpin},
    netlink::{self, Socket, route},
    overlay,
    pin::{self, Pin},
    published,
};

/// The network of this host. Any thread may use it.
pub struct Network {
    config: Config,
    names: Names,
    maker: Arc<Maker>,
    warm: Warm,
    sandboxes: Mutex<BTreeMap<String, Standing>>,
    balancer: Mutex<Balancer>,
    /// Subnets of before in which sandboxes stand.
    former: Vec<Subnet>,
    /// Other hosts of the overlay, as they were told last; none before that.
    peers: Mutex<Option<Vec<Peer>>>,
}

/// A sandbox that stands, and its namespace, which its pin may lose.
struct Standing {
    pin: Pin,
    namespace: OwnedFd,
}

/// A network namespace on the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    /// Enter it by opening this path for setns(2).
    pub netns: PathBuf,
    pub address: Ipv4Addr,
    /// The host's address on the bridge, where the default route leads.
    pub gateway: Ipv4Addr,
}

struct Balancer {
    firewall: Firewall,
    flows: Socket,
    /// Flows that may lead elsewhere than the services do.
    unsettled: BTreeSet<Scope>,
    /// Where sandboxes may be that services led to: our own subnets, and those of all hosts that were ever connected.
    reached: BTreeSet<Subnet>,
}

impl Network {
    /// Makes the bridge and the standing rules, or takes over what an earlier process made: its sandboxes and
    /// published ports go on working, and each returns to its owner by [`Network::sandboxes`] and the first
    /// [`Network::publish`].
    ///
    /// Everything happens in the calling thread's network namespace. One process at a time uses a name.
    pub fn open(mut config: Config) -> Result<Network, Error> {
        let names = config.names()?;
        let mut socket = Socket::open(netlink::Protocol::Route)?;
        if let (None, Some(overlay)) = (config.mtu, &config.overlay) {
            config.mtu = Some(overlay::mtu(&mut socket, overlay)?);
        }
        let pins = adopt(&config)?;
        let standing: Vec<Ipv4Addr> = pins.values().map(|held| held.pin.address).collect();
        if let Some(mtu) = config.mtu {
            fit(&mut socket, mtu, pins.values().map(|held| &held.pin), &config.state_dir)?;
        }
        let (bridge, former) = host::ensure_bridge(&mut socket, &config, &names, &standing)?;
        let admitted = pins.values().map(|held| (held.pin.port.clone(), held.pin.address)).collect();
        let gate = config.overlay.map(|overlay| Gate { overlay, peers: None });
        let ground = Ground { subnet: config.subnet, former: former.clone(), gate };
        let firewall = Firewall::open(&names, ground, admitted)?;
        let flows = Socket::open(netlink::Protocol::Netfilter)?;
        let reached = former.iter().copied().chain([config.subnet]).collect();
        let balancer = Mutex::new(Balancer { firewall, flows, unsettled: BTreeSet::new(), reached });
        let maker = Arc::new(Maker::new(socket, names.clone(), bridge, config.mtu));
        Ok(Network {
            warm: Warm::start(maker.clone(), config.warm)?,
            config,
            names,
            maker,
            sandboxes: Mutex::new(pins),
            balancer,
            former,
            peers: Mutex::new(None),
        })
    }

    /// Joins the sandboxes of exactly these hosts with ours: they reach each other by address. What an earlier process
    /// connected goes on until this is called first. A peer whose subnet is in use elsewhere is left out, and said so in
    /// the log. Without any peer nothing is left of the overlay.
    pub fn connect(&self, peers: &[Peer]) -> Result<(), Error> {
        if self.config.overlay.is_none() && !peers.is_empty() {
            return Err(Error::NoOverlay);
        }
        let mut known = self.peers();
        let is_news = known.as_ref().is_none_or(|known| known != peers);
        let left_out = self.lay_tunnels(peers)?;
        for error in left_out.iter().filter(|_| is_news) {
            tracing::error!(%error, "a host of the overlay is left out");
        }
        *known = Some(peers.to_vec());
        Ok(())
    }

    /// Returns why peers are left out.
    fn lay_tunnels(&self, peers: &[Peer]) -> Result<Vec<Error>, Error> {
        let Some(overlay) = &self.config.overlay else { return Ok(Vec::new()) };
        let place = (self.config.subnet, overlay);
        let (usable, left_out) = overlay::usable(&mut self.maker.host(), &self.names, place, peers)?;
        {
            let mut balancer = self.balancer();
            balancer.reached.extend(usable.iter().map(|peer| peer.subnet));
            balancer.firewall.set_peers(usable.iter().map(|peer| peer.address).collect())?;
        }
        overlay::connect(&mut self.maker.host(), &self.names, place, self.config.mtu, &usable)?;
        Ok(left_out)
    }

    /// Makes a sandbox: `lo` and `eth0` up, the address, a default route through the bridge. Asking again for
    /// one that exists returns it.
    pub fn create_sandbox(&self, id: &str, address: Ipv4Addr) -> Result<Sandbox, Error> {
        if !pin::is_valid_id(id) {
            return Err(Error::Id(id.to_string()));
        }
        if let Some(existing) = self.existing(id, address)? {
            return Ok(self.sandbox(&existing));
        }
        if !self.config.subnet.is_usable(address) {
            return Err(Error::Address { address, subnet: self.config.subnet });
        }
        let connected = match self.warm.take() {
            Some(ready) => ready,
            None => self.maker.make()?,
        };
        let sandbox = self.settle_in(connected, id, address);
        self.warm.refill();
        sandbox
    }

    /// Gives a connected namespace its address, its route and its name.
    fn settle_in(&self, mut connected: Connected, id: &str, address: Ipv4Addr) -> Result<Sandbox, Error> {
        let pin = Pin { id: id.to_string(), address, port: connected.port.clone() };
        self.balancer().firewall.admit(&pin.port, address)?;
        self.maker.settle(&mut connected, address, self.config.subnet)?;
        connected.namespace.pin(&pin.path(&self.config.state_dir))?;
        let sandbox = self.sandbox(&pin);
        let namespace = connected.namespace.into_fd();
        self.pins().insert(pin.id.clone(), Standing { pin, namespace });
        Ok(sandbox)
    }

    /// The sandboxes that stand, those of earlier processes too.
    pub fn sandboxes(&self) -> Result<Vec<(String, Ipv4Addr)>, Error> {
        Ok(self.pins().values().map(|held| (held.pin.id.clone(), held.pin.address)).collect())
    }

    /// Lets go of a sandbox; fine if there is none. Its namespace and link vanish when the last process in it
    /// has, some milliseconds later.
    pub fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let Some(held) = self.pins().remove(id) else { return Ok(()) };
        let path = held.pin.path(&self.config.state_dir);
        if let Err(source) = unpin(&path) {
            self.pins().insert(held.pin.id.clone(), held);
            return Err(Error::StateDir { path, source });
        }
        let pin = held.pin;
        Ok(self.balancer().firewall.expel(&pin.port, pin.address)?)
    }

    /// Makes exactly these ports reachable, in one transaction: from outside, from the host (127.0.0.1 too) and
    /// from sandboxes. New connections go to the backends in strict turn. A backend that is left out keeps its
    /// TCP connections and gets no new ones; UDP flows move on to another. Repeating a set costs microseconds,
    /// and repairs what other programs did to the rules.
    pub fn publish(&self, published: &[Published]) -> Result<(), Error> {
        let services = published::services(published)?;
        let mut balancer = self.balancer();
        let publication = balancer.firewall.publish(services.clone())?;
        balancer.unsettled.extend(concerned(publication));
        if !balancer.unsettled.is_empty() {
            self.settle_flows(&mut balancer, &services)?;
        }
        Ok(())
    }

    /// Puts right what others took away: the bridge, its address and ports, the kernel's switches, the pins of
    /// sandboxes, the ways to other hosts. Costs a few milliseconds where nothing is amiss. Rules are put right by [`Network::publish`].
    pub fn repair(&self) -> Result<(), Error> {
        let pins = self.pins();
        for held in pins.values() {
            let path = held.pin.path(&self.config.state_dir);
            if !is_pinned(&path) {
                tracing::warn!(sandbox = held.pin.id, "the pin of a sandbox was gone and is made again");
                std::fs::create_dir_all(&self.config.state_dir)
                    .map_err(|source| Error::StateDir { path: self.config.state_dir.clone(), source })?;
                namespace::pin(&held.namespace, &path)?;
            }
        }
        let ports: Vec<_> = pins.values().map(|held| (held.pin.port.clone(), held.pin.address)).collect();
        drop(pins);
        if self.maker.repair_bridge(&self.config, &self.former)? {
            tracing::warn!(bridge = self.names.bridge, "the bridge was gone and is made again");
            // They hang on the bridge that was.
            self.warm.discard();
            for (port, address) in ports {
                self.maker.plug_in(&port, address)?;
            }
            self.warm.refill();
        }
        match &*self.peers() {
            Some(peers) => self.lay_tunnels(peers).map(drop),
            None => Ok(()),
        }
    }

    /// How many sandboxes are made ready for [`Network::create_sandbox`] to take.
    pub fn warm(&self) -> usize {
        self.warm.ready()
    }

    /// Removes everything that carries this network's name: sandboxes, even inhabited ones, links, the bridge,
    /// firewall tables, and what a crash left of them. Kernel switches stay on, since others may rely on them.
    pub fn teardown(&self) -> Result<(), Error> {
        self.warm.stop();
        let failed = |source| Error::StateDir { path: self.config.state_dir.clone(), source };
        let known = std::mem::take(&mut *self.pins());
        let known = known.values().map(|held| &held.pin);
        for pin in known.chain(&pin::files(&self.config.state_dir).unwrap_or_default()) {
            unpin(&pin.path(&self.config.state_dir)).map_err(failed)?;
        }
        host::remove_links(&mut self.maker.host(), &self.names)?;
        match overlay::remove(&mut self.maker.host(), &self.names) {
            // Somebody else's stays.
            Ok(()) | Err(Error::NameTaken { .. }) => {}
            Err(error) => return Err(error),
        }
        *self.peers() = None;
        self.balancer().firewall.remove()?;
        // It stays if it holds something that is not ours.
        if let Err(error) = std::fs::remove_dir(&self.config.state_dir) {
            tracing::debug!(%error, "the directory of sandboxes stays");
        }
        Ok(())
    }

    fn existing(&self, id: &str, address: Ipv4Addr) -> Result<Option<Pin>, Error> {
        let pins = self.pins();
        match pins.get(id) {
            Some(held) if held.pin.address == address => return Ok(Some(held.pin.clone())),
            Some(held) => {
                return Err(Error::Exists { id: id.to_string(), has: held.pin.address, wanted: address });
            }
            None => {}
        }
        match pins.values().map(|held| &held.pin).find(|pin| pin.address == address) {
            Some(pin) => Err(Error::AddressTaken { address, holder: pin.id.clone(), id: id.to_string() }),
            None => Ok(None),
        }
    }

    fn sandbox(&self, pin: &Pin) -> Sandbox {
        Sandbox {
            id: pin.id.clone(),
            netns: pin.path(&self.config.state_dir),
            address: pin.address,
            gateway: self.home(pin.address).gateway(),
        }
    }

    /// The subnet that an address of a sandbox is of.
    fn home(&self, address: Ipv4Addr) -> Subnet {
        let former = self.former.iter().copied().find(|subnet| subnet.contains(address));
        former.filter(|_| !self.config.subnet.contains(address)).unwrap_or(self.config.subnet)
    }

    fn settle_flows(&self, balancer: &mut Balancer, services: &Services) -> Result<(), Error> {
        let host: Vec<Ipv4Addr> =
            route::addresses(&mut self.maker.host())?.into_iter().map(|held| held.address).collect();
        let Balancer { flows, unsettled, reached, .. } = balancer;
        let forgotten = conntrack::settle(flows, unsettled, services, reached, &host)?;
        unsettled.clear();
        tracing::debug!(forgotten, "flows were settled");
        Ok(())
    }

    fn pins(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Option<Vec<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn adopt(config: &Config) -> Result<BTreeMap<String, Standing>, Error> {
    let failed = |source| Error::StateDir { path: config.state_dir.clone(), source };
    std::fs::create_dir_all(&config.state_dir).map_err(failed)?;
    let pins = pin::adopt(&config.state_dir).map_err(failed)?;
    let standing = |pin: Pin| {
        let namespace = File::open(pin.path(&config.state_dir)).map_err(failed)?.into();
        Ok((pin.id.clone(), Standing { pin, namespace }))
    };
    pins.into_iter().map(standing).collect()
}

/// The flows that a publication may have left behind: of UDP wherever backends changed, of TCP only where there was none.
/// A busy port has a hundred thousand flows, and to list them at each change would hold a rollout up.
fn concerned(publication: Publication) -> Vec<Scope> {
    let of = |protocol, services: Vec<Service>| {
        services.into_iter().filter(move |service| service.protocol == protocol).map(Scope::Service)
    };
    match publication {
        Publication::Nothing => Vec::new(),
        Publication::Changed { services, opened } => {
            of(Protocol::Udp, services).chain(of(Protocol::Tcp, opened)).collect()
        }
        Publication::Rewritten { opened } => {
            [Scope::All(Protocol::Udp)].into_iter().chain(of(Protocol::Tcp, opened)).collect()
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Network").field("config", &self.config).finish_non_exhaustive()
    }
}
