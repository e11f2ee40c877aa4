//! What everybody may look at without asking the manager: what this server knows, and how it is.
//!
//! The worker holds the [`Publisher`], every handle a [`Published`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use consensus::MemberId;
use manager::View;
use model::MemberPart;
use tokio::sync::watch;

/// The two ends.
pub(super) fn published(view: View) -> (Publisher, Published) {
    let condition = Arc::default();
    let (to_servers, servers) = watch::channel(Servers::of(&view));
    let (to_leader, leader) = watch::channel(view.leader);
    let (to_views, views) = watch::channel(view);
    let publisher = Publisher {
        views: to_views,
        servers: to_servers,
        leader: to_leader,
        condition: Arc::clone(&condition),
    };
    (publisher, Published { views, servers, leader, condition })
}

#[derive(Debug)]
pub(super) struct Publisher {
    views: watch::Sender<View>,
    servers: watch::Sender<Servers>,
    leader: watch::Sender<Option<MemberId>>,
    condition: Arc<Mutex<Condition>>,
}

#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) views: watch::Receiver<View>,
    /// Changes only when they do: each agent's session waits for that.
    pub(super) servers: watch::Receiver<Servers>,
    /// Changes only when it does: every request that is handed on waits for that.
    pub(super) leader: watch::Receiver<Option<MemberId>>,
    condition: Arc<Mutex<Condition>>,
}

/// How this server is, apart from what it knows.
#[derive(Debug, Default)]
struct Condition {
    /// None while no leader has said anything since it started.
    leader_heard: Option<Instant>,
    /// Why it can write nothing now; none while it can.
    full: Option<String>,
}

impl Publisher {
    pub(super) fn publish(&self, view: View) {
        // The view first: who is woken by the others looks at it.
        self.views.send_replace(view);
        let view = self.views.borrow();
        self.leader.send_if_modified(|leader| std::mem::replace(leader, view.leader) != view.leader);
        self.servers.send_if_modified(|told| {
            let is_news = !told.are_those_of(&view);
            if is_news {
                *told = Servers::of(&view);
            }
            is_news
        });
    }

    /// This member said something.
    pub(super) fn hears(&self, member: MemberId) {
        if self.views.borrow().leader == Some(member) {
            self.condition().leader_heard = Some(Instant::now());
        }
    }

    pub(super) fn set_full(&self, full: Option<String>) {
        self.condition().full = full;
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        lock(&self.condition)
    }
}

impl Published {
    /// What this server knows, which may be old.
    pub(super) fn newest(&self) -> View {
        self.views.borrow().clone()
    }

    /// When a leader last said something to this server.
    pub(super) fn leader_heard(&self) -> Option<Instant> {
        lock(&self.condition).leader_heard
    }

    /// Why this server can write nothing now.
    pub(super) fn full(&self) -> Option<String> {
        lock(&self.condition).full.clone()
    }
}

/// Each change is one assignment: it is whole, also after a panic.
fn lock(condition: &Mutex<Condition>) -> MutexGuard<'_, Condition> {
    condition.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What hosts are told of the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    /// Where those are that take part, or are to.
    pub(crate) addresses: Vec<String>,
    /// Whom to believe, in PEM; empty where there is no authority.
    pub(crate) trust: String,
}

impl Servers {
    fn of(view: &View) -> Servers {
        Servers { addresses: addresses(view).map(str::to_owned).collect(), trust: bundle(view).to_owned() }
    }

    /// The same without any copy: it is asked of each view.
    fn are_those_of(&self, view: &View) -> bool {
        self.trust == bundle(view) && addresses(view).eq(self.addresses.iter())
    }
}

fn addresses(view: &View) -> impl Iterator<Item = &str> {
    let members = view.state.members().filter(|member| member.part != MemberPart::Removed);
    members.map(|member| member.address.as_str())
}

fn bundle(view: &View) -> &str {
    view.state.trust().map_or("", |trust| &trust.bundle)
}
