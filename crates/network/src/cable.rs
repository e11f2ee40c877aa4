//! Namespaces with their cable laid, and the ones kept ready for the next sandbox.
//!
//! Making a namespace costs half a millisecond and laying its cable as much again, most of it inside the
//! kernel. Neither needs to know whose sandbox it will be, so both can happen ahead of time: the sandbox's
//! address, its route and its name come last and are cheap.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{
    Config, Subnet,
    config::Names,
    error::Error,
    host, inhabit,
    namespace::Namespace,
    netlink::{
        self, Socket,
        link::{self, Cable},
        message::Batch,
        route,
    },
    pin::Pin,
};

/// A namespace connected to the bridge, without an address yet.
pub(crate) struct Connected {
    pub(crate) namespace: Namespace,
    /// The host's end of the cable.
    pub(crate) port: String,
    index: u32,
}

/// Lays cables from the bridge into new namespaces.
pub(crate) struct Maker {
    host: Mutex<Socket>,
    names: Names,
    /// The bridge's index; another one after it was made again.
    bridge: AtomicU32,
    mtu: Option<u32>,
}

impl Maker {
    pub(crate) fn new(host: Socket, names: Names, bridge: u32, mtu: Option<u32>) -> Maker {
        Maker { host: Mutex::new(host), names, bridge: AtomicU32::new(bridge), mtu }
    }

    /// Whether the bridge had to be made again: then no port is on it.
    pub(crate) fn repair_bridge(&self, config: &Config, former: &[Subnet]) -> Result<bool, Error> {
        let found = host::repair_bridge(&mut self.host(), config, &self.names, former)?;
        Ok(self.bridge.swap(found, Ordering::Relaxed) != found)
    }

    /// Puts a port that lost its bridge onto the present one. A port that is gone went with its sandbox.
    pub(crate) fn plug_in(&self, port: &str, address: Ipv4Addr) -> Result<(), Error> {
        let mut host = self.host();
        let Ok(Some(index)) = link::await_carrier(&mut host, port) else { return Ok(()) };
        let mut batch = Batch::new();
        link::set_bridge(&mut batch, port, self.bridge.load(Ordering::Relaxed));
        link::fix_port(&mut batch, index, link::ethernet_address(address));
        Ok(host.execute(&mut batch)?)
    }

    /// The socket in the host's namespace.
    pub(crate) fn host(&self) -> std::sync::MutexGuard<'_, Socket> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn make(&self) -> Result<Connected, Error> {
        let mut namespace = Namespace::create()?;
        let port = port_name()?;
        let mut outside = Batch::new();
        let cable = Cable {
            port: &port,
            bridge: self.bridge.load(Ordering::Relaxed),
            group: self.names.group,
            mtu: self.mtu,
            sandbox: namespace.as_fd(),
        };
        link::add_cable(&mut outside, &cable);
        self.host().execute(&mut outside)?;
        let mut inside = Batch::new();
        link::bring_up(&mut inside, link::LOOPBACK);
        link::without_ipv6(&mut inside, link::SANDBOX_LINK);
        link::bring_up(&mut inside, link::SANDBOX_LINK);
        namespace.inside.execute(&mut inside)?;
        link::await_carrier(&mut namespace.inside, link::SANDBOX_LINK_NAME)?;
        let index = link::await_carrier(&mut self.host(), &port)?;
        // The first port that comes up gives the bridge itself a carrier.
        link::await_carrier(&mut self.host(), &self.names.bridge)?;
        let index = index.ok_or_else(|| Error::LinkLost { name: port.clone() })?;
        Ok(Connected { namespace, port, index })
    }

    /// Gives a connected namespace its address and its route.
    pub(crate) fn settle(
        &self,
        connected: &mut Connected,
        address: Ipv4Addr,
        subnet: Subnet,
    ) -> Result<(), Error> {
        let ethernet = link::ethernet_address(address);
        let mut outside = Batch::new();
        link::fix_port(&mut outside, connected.index, ethernet);
        self.host().execute(&mut outside)?;
        let mut inside = Batch::new();
        link::set_ethernet_address(&mut inside, link::SANDBOX_LINK, ethernet);
        route::add_address(&mut inside, link::SANDBOX_LINK, address, subnet);
        route::add_default_route(&mut inside, link::SANDBOX_LINK, subnet.gateway());
        Ok(connected.namespace.inside.execute(&mut inside)?)
    }
}

/// Has the cables of sandboxes from before carry packets of this size: what was larger would be lost on its way to another
/// host. The host's end tells which were done. One that cannot be changed goes on as it was, and is tried again at the next
/// start.
pub(crate) fn fit<'a>(
    host: &mut Socket,
    mtu: u32,
    standing: impl Iterator<Item = &'a Pin>,
    state_dir: &Path,
) -> Result<(), Error> {
    let links: HashMap<String, (u32, Option<u32>)> =
        link::list(host)?.into_iter().map(|link| (link.name, (link.index, link.mtu))).collect();
    for pin in standing {
        let Some((index, _)) = links.get(&pin.port).filter(|(_, has)| *has != Some(mtu)) else { continue };
        let inside = || resize(&mut Socket::open(netlink::Protocol::Route)?, link::SANDBOX_LINK, mtu);
        let fitted = inhabit::visit(&pin.path(state_dir), inside).map_err(Error::Visit).flatten();
        if let Err(error) = fitted.and_then(|()| resize(host, *index, mtu)) {
            tracing::error!(sandbox = pin.id, %error, "large packets of a sandbox may not reach other hosts");
        }
    }
    Ok(())
}

fn resize(socket: &mut Socket, index: u32, mtu: u32) -> Result<(), Error> {
    let mut batch = Batch::new();
    link::set_mtu(&mut batch, index, mtu);
    Ok(socket.execute(&mut batch)?)
}

/// A name that no other link has had: the kernel removes links some time after their namespace is gone.
fn port_name() -> Result<String, Error> {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0u8; 13];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|errno| Error::Random(errno.into()))?;
    let digits = random.iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)]));
    Ok("wh".chars().chain(digits).collect())
}

/// Keeps a number of connected namespaces ready. They belong to this process: none outlives it.
pub(crate) struct Warm {
    shelf: Arc<Shelf>,
    filler: Mutex<Option<JoinHandle<()>>>,
}

struct Shelf {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: Vec<Connected>,
    wanted: usize,
    /// The last attempt failed: the next one waits until someone asks again.
    failed: bool,
}

impl Shelf {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warm {
    pub(crate) fn start(maker: Arc<Maker>, wanted: usize) -> Result<Warm, Error> {
        let shelf = Arc::new(Shelf {
            state: Mutex::new(State { ready: Vec::new(), wanted, failed: false }),
            changed: Condvar::new(),
        });
        let filler = match wanted {
            0 => None,
            _ => {
                let shelf = shelf.clone();
                let thread = thread::Builder::new().name("wharf-warm".to_string());
                Some(thread.spawn(move || fill(&maker, &shelf)).map_err(Error::Thread)?)
            }
        };
        Ok(Warm { shelf, filler: Mutex::new(filler) })
    }

    /// One that is ready, if there is.
    pub(crate) fn take(&self) -> Option<Connected> {
        self.shelf.state().ready.pop()
    }

    /// Has what was taken replaced. Called when the taker is done, for both want the kernel's one lock.
    pub(crate) fn refill(&self) {
        self.shelf.state().failed = false;
        self.shelf.changed.notify_all();
    }

    /// Lets go of what is ready; [`Warm::refill`] has new ones made.
    pub(crate) fn discard(&self) {
        self.shelf.state().ready.clear();
    }

    pub(crate) fn ready(&self) -> usize {
        self.shelf.state().ready.len()
    }

    /// Stops filling and lets go of what is ready.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.shelf.state();
            state.wanted = 0;
            self.shelf.changed.notify_all();
        }
        let filler = self.filler.lock().unwrap_or_else(PoisonError::into_inner).take();
        if filler.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps sandboxes ready has panicked");
        }
        self.shelf.state().ready.clear();
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn fill(maker: &Maker, shelf: &Shelf) {
    loop {
        {
            let mut state = shelf.state();
            while state.wanted > 0 && (state.failed || state.ready.len() >= state.wanted) {
                state = shelf.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.wanted == 0 {
                return;
            }
        }
        let made = maker.make();
        let mut state = shelf.state();
        match made {
            Ok(connected) => state.ready.push(connected),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no sandbox could be made ready");
                state.failed = true;
            }
        }
    }
}
