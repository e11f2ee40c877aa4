//! Acknowledged durable writes: wharf and etcd on the same disk in the same run, with one and three members.
//!
//! Fair, because the same code asks both over the same kind of way ([`load`]), each client has one connection and one key
//! of its own, and rounds take turns. Writes of both go to the leader's Unix socket; servers speak TLS among themselves.
//! After each round what was acknowledged is read back: the last value, and how often its key was written.
//!
//! Start reading at [`run`].

mod disk;
mod etcd;
mod load;
mod shown;
mod wharf;

use std::time::Duration;

use etcd::Etcd;
use load::{Client, Round};
use wharf::{Change, Wharf};

/// What one client is asked to write, in bytes: etcd's values, and what changes of a service.
const VALUE_BYTES: usize = 256;
/// Before a round is measured: connections, leaders' caches, the clocks of the processors.
const WARM_UP: Duration = Duration::from_millis(500);

const MEASURED: Duration = Duration::from_secs(2);

/// Whose writes a line of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Etcd,
    Wharf(Change),
}

const SUBJECTS: [Subject; 3] =
    [Subject::Etcd, Subject::Wharf(Change::Template), Subject::Wharf(Change::Annotation)];

/// Each number of members with each number of clients.
#[derive(Clone, Debug)]
pub(crate) struct Cells {
    pub(crate) members: Vec<usize>,
    pub(crate) clients: Vec<usize>,
}

impl Default for Cells {
    fn default() -> Cells {
        Cells { members: vec![1, 3], clients: vec![1, 64] }
    }
}

/// One place of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    members: usize,
    clients: usize,
}

pub(crate) fn run(rounds: usize, cells: &Cells) -> Result<(), String> {
    let folder = tempfile::Builder::new().prefix("wharf-bench-").tempdir().expect("a temporary folder");
    println!("{}", disk::check(folder.path())?);
    println!("{}", etcd::version()?);
    println!("\n{}", shown::header());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for &members in &cells.members {
        let etcd = Etcd::start(folder.path(), members);
        let wharf = Wharf::start(folder.path(), members);
        for &clients in &cells.clients {
            let cell = Cell { members, clients };
            let measured = runtime.block_on(measure(cell, rounds, &etcd, &wharf))?;
            println!("{}", shown::cell(cell, &measured));
        }
        println!("{}", shown::memory(members, &etcd.pids(), &wharf.pids()));
    }
    Ok(())
}

/// The rounds of each subject, in the order of [`SUBJECTS`].
async fn measure(cell: Cell, rounds: usize, etcd: &Etcd, wharf: &Wharf) -> Result<[Vec<Round>; 3], String> {
    let etcd_socket = etcd.leaders_socket().await?;
    let wharf_socket = wharf.leaders_socket();
    let node = wharf.attended(&wharf_socket).await?;
    let mut measured = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..SUBJECTS.len() {
            // Each begins as often as the others.
            let which = (round + turn) % SUBJECTS.len();
            let socket = if SUBJECTS[which] == Subject::Etcd { &etcd_socket } else { &wharf_socket };
            let clients = Client::connect(SUBJECTS[which], socket, cell.clients).await?;
            measured[which].push(load::round(clients, WARM_UP, MEASURED).await?);
        }
    }
    node.abort();
    Ok(measured)
}
