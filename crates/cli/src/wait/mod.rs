//! Waiting for the end of rollouts, and for services to be gone.
//!
//! [`follow`] watches the services of some goals; [`judge`] says of each answer, without looking at anything else, how
//! far a goal is or how it ended. The worst of the ends is the exit code.

mod judge;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use model::{Generation, RevisionNumber, ServiceKey, Unplaceable};

pub use self::judge::{Verdict, end_of, judge, step_of};
use crate::{
    answer::Answer,
    args::Waiting,
    ask::Question,
    connect::Client,
    exit::{Code, Failure},
    output::{progress::Progress, remark, text::lines},
    watching::Watching,
};

/// A replica that no node can take may become placeable by itself; after this long it is not waited for any more.
const UNPLACEABLE_PATIENCE: Duration = Duration::from_secs(10);

/// What a service must reach for a wait to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Runs as the user declared it at this generation.
    Runs { service: ServiceKey, generation: Generation, revision: RevisionNumber },
    /// Nothing of it is left.
    Gone { service: ServiceKey },
}

impl Goal {
    /// From what a server answers a change with.
    pub fn runs(service: ServiceKey, generation: u64, revision: u64) -> Goal {
        Goal::Runs { service, generation: Generation(generation), revision: RevisionNumber(revision) }
    }

    pub fn service(&self) -> &ServiceKey {
        match self {
            Goal::Runs { service, .. } | Goal::Gone { service } => service,
        }
    }

    /// What a person can say to go on looking.
    fn how_to_follow(&self) -> String {
        match self {
            Goal::Runs { service, .. } => format!("`wharf rollout status {service} --wait` follows it"),
            Goal::Gone { service } => format!("`wharf get services {service}` tells whether it is gone"),
        }
    }
}

/// For verbs whose change may be waited for; Ctrl-C ends the waiting and nothing else.
pub async fn if_asked(client: &mut Client, goals: Vec<Goal>, waiting: &Waiting) -> Result<Code, Failure> {
    if waiting.wait { interruptible(client, goals, waiting.timeout).await } else { Ok(Code::Done) }
}

pub async fn interruptible(
    client: &mut Client,
    goals: Vec<Goal>,
    timeout: Duration,
) -> Result<Code, Failure> {
    let advice: Vec<String> = goals.iter().map(Goal::how_to_follow).collect();
    tokio::select! {
        code = follow(client, goals, timeout) => code,
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(|error| Failure::new("signals cannot be received").caused_by(error))?;
            remark("\nno longer waiting; what was begun goes on\n");
            remark(&lines(advice));
            Ok(Code::Interrupted)
        }
    }
}

/// Waits until every goal is reached or lost; the worst of the ends is the exit code.
pub async fn follow(client: &mut Client, goals: Vec<Goal>, timeout: Duration) -> Result<Code, Failure> {
    let question = Question::named(goals.iter().map(Goal::service));
    let mut waiting = Follower {
        open: goals.into_iter().map(|goal| (goal.service().to_string(), goal)).collect(),
        worst: Code::Done,
        unplaceable_since: BTreeMap::new(),
        progress: Progress::new(),
        last: None,
        deadline: Instant::now() + timeout,
    };
    waiting.watch(Watching::of_a_change(client, &question)).await?;
    Ok(waiting.worst)
}

struct Follower {
    open: BTreeMap<String, Goal>,
    worst: Code,
    unplaceable_since: BTreeMap<String, Instant>,
    progress: Progress,
    last: Option<Answer>,
    deadline: Instant,
}

impl Follower {
    /// Until all goals have ended, the deadline has passed or no server answers.
    async fn watch(&mut self, mut watching: Watching<'_>) -> Result<(), Failure> {
        while !self.open.is_empty() {
            // Looked at again and again as well, for what only time decides.
            let pause = self.deadline.saturating_duration_since(Instant::now()).min(Progress::TICK);
            match tokio::time::timeout(pause, watching.next()).await {
                Ok(answer) => {
                    self.last = Some(answer?);
                    self.look();
                }
                Err(_) if Instant::now() >= self.deadline => self.give_up(),
                Err(_) => {
                    watching.is_quiet();
                    self.progress.tick();
                    self.look();
                }
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        let Some(answer) = self.last.take() else { return };
        for (name, goal) in self.open.clone() {
            let verdict = match judge(&goal, answer.service(goal.service())) {
                Verdict::Open { step, unplaceable } => match self.lost_patience(&name, unplaceable) {
                    Some(reason) => Verdict::Ended(Code::Unplaceable, format!("cannot be placed: {reason}")),
                    None => Verdict::Open { step, unplaceable: None },
                },
                ended @ Verdict::Ended(..) => ended,
            };
            match verdict {
                Verdict::Open { step, .. } => self.progress.show(&name, &step),
                Verdict::Ended(code, text) => self.end(&name, code, &text),
            }
        }
        self.last = Some(answer);
    }

    /// Why nothing can go on, once that has been so for a while.
    fn lost_patience(&mut self, name: &str, unplaceable: Option<Unplaceable>) -> Option<Unplaceable> {
        let Some(reason) = unplaceable else {
            self.unplaceable_since.remove(name);
            return None;
        };
        let since = *self.unplaceable_since.entry(name.to_owned()).or_insert_with(Instant::now);
        (since.elapsed() >= UNPLACEABLE_PATIENCE).then_some(reason)
    }

    fn give_up(&mut self) {
        for (name, goal) in self.open.clone() {
            let found = self.last.as_ref().and_then(|answer| answer.service(goal.service()));
            let stands = found.map_or_else(|| "no server answered".to_owned(), judge::stands);
            self.end(&name, Code::DeadlinePassed, &format!("is not done in time, and goes on: {stands}"));
        }
    }

    fn end(&mut self, name: &str, code: Code, text: &str) {
        self.open.remove(name);
        self.worst = self.worst.max(code);
        // What was so from the first look on took no time.
        let took = match self.progress.is_open(name) && code == Code::Done {
            true => format!(" after {}", self.progress.took()),
            false => String::new(),
        };
        self.progress.end(name, code == Code::Done, &format!("{text}{took}"));
    }
}
