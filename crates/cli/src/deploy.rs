//! What `apply`, `scale`, `rollout` and `dev` share: reading manifests, declaring services, and waiting for the end of
//! a rollout with its exit code.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use manifest::{Manifest, Source, Style};
use model::Timestamp;
use proto::v1;

use crate::{
    connect::Client,
    exit::{Code, Failure},
    output::progress::Progress,
};

/// A replica that no node can take may become placeable by itself; after this long it is not waited for any more.
const UNPLACEABLE_PATIENCE: Duration = Duration::from_secs(10);

/// Reads every manifest that is named; errors of all files at once.
pub fn read_manifests(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        collect_texts(path, &mut texts)?;
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    manifest::parse_all(&sources).map_err(|errors| {
        let style = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Style::COLOURS
        } else {
            Style::PLAIN
        };
        eprint!("{}", errors.render(&style));
        let count = errors.problems().len();
        let plural = if count == 1 { "problem" } else { "problems" };
        Failure::new(format!("{count} {plural} in the manifests; nothing was applied"))
            .code(Code::InvalidManifest)
    })
}

fn collect_texts(path: &Path, texts: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let unreadable =
        |path: &Path, error| Failure::new(format!("cannot read {}", path.display())).caused_by(error);
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable(path, error))?;
        texts.push(("<stdin>".to_owned(), text));
        return Ok(());
    }
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, error))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
        files.sort();
        if files.is_empty() {
            return Err(Failure::new(format!("{} holds no .yaml or .yml files", path.display())));
        }
        return files.iter().try_for_each(|file| collect_texts(file, texts));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    texts.push((path.display().to_string(), text));
    Ok(())
}

pub fn declaration(manifest: &Manifest) -> v1::ServiceDeclaration {
    v1::ServiceDeclaration {
        service: Some(v1::ServiceKey::from(&manifest.key)),
        labels: manifest.labels.clone(),
        annotations: manifest.annotations.clone(),
        spec: Some(v1::ServiceSpec::from(&manifest.spec)),
        expects_version: None,
    }
}

pub async fn apply(
    client: &mut Client,
    manifests: &[Manifest],
    dry_run: bool,
) -> Result<Vec<v1::ApplyResult>, Failure> {
    let services = manifests.iter().map(declaration).collect();
    let response = client.apply(v1::ApplyRequest { services, dry_run }).await?;
    Ok(response.into_inner().results)
}

/// What a rollout must reach for a wait to end.
#[derive(Clone, Debug)]
pub struct Goal {
    pub service: v1::ServiceKey,
    pub generation: u64,
    pub revision: u64,
}

/// Waits until every goal is reached or lost; the worst of the ends is the exit code.
pub async fn wait(client: &mut Client, goals: Vec<Goal>, timeout: Duration) -> Result<Code, Failure> {
    let keys = goals.iter().map(|goal| goal.service.clone()).collect();
    let services = Some(v1::status_request::Services::Named(v1::status_request::ServiceKeys { keys }));
    let request = v1::StatusRequest { services, ..v1::StatusRequest::default() };
    let mut waiting = Waiting {
        open: goals.into_iter().map(|goal| (name_of(&goal.service), goal)).collect(),
        ended: BTreeMap::new(),
        unplaceable_since: BTreeMap::new(),
        progress: Progress::new(),
    };
    let deadline = Instant::now() + timeout;
    let mut failures = 0;
    while !waiting.open.is_empty() {
        match waiting.follow(client, request.clone(), deadline).await {
            Ok(()) => failures = 0,
            // A server that restarts is back in a moment; the deadline bounds how long that is believed.
            Err(status) if failures < 50 && Instant::now() < deadline && is_transient(&status) => {
                failures += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
    waiting.progress.finish();
    Ok(waiting.ended.values().copied().max().unwrap_or(Code::Done))
}

fn is_transient(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled)
}

pub fn name_of(key: &v1::ServiceKey) -> String {
    match key.namespace.as_str() {
        "default" | "" => key.name.clone(),
        namespace => format!("{namespace}/{}", key.name),
    }
}

struct Waiting {
    open: BTreeMap<String, Goal>,
    ended: BTreeMap<String, Code>,
    unplaceable_since: BTreeMap<String, Instant>,
    progress: Progress,
}

impl Waiting {
    /// Follows one watch until all goals have ended, the deadline has passed or the stream breaks.
    async fn follow(
        &mut self,
        client: &mut Client,
        request: v1::StatusRequest,
        deadline: Instant,
    ) -> Result<(), tonic::Status> {
        let mut updates = client.watch(request).await?.into_inner();
        let mut last: Option<v1::StatusResponse> = None;
        while !self.open.is_empty() {
            // Looked at every second as well, for what only time decides.
            let pause = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
            match tokio::time::timeout(pause, updates.message()).await {
                Ok(update) => {
                    let ended = || tonic::Status::unavailable("the server ended the watch");
                    last = Some(update?.ok_or_else(ended)?);
                }
                Err(_) if Instant::now() >= deadline => self.give_up(last.as_ref()),
                Err(_) => {}
            }
            if let Some(status) = &last {
                self.look_at(status);
            }
        }
        Ok(())
    }

    fn look_at(&mut self, status: &v1::StatusResponse) {
        let names: Vec<String> = self.open.keys().cloned().collect();
        for name in names {
            let found = status.services.iter().find(|s| service_name(s) == name);
            let goal = &self.open[&name];
            let (code, text) = match found {
                Some(found) => {
                    self.progress.show(&name, &describe_progress(found));
                    match ended(goal, found) {
                        Some(end) => end,
                        None => match self.unplaceable(&name, found) {
                            Some(reason) => (Code::Unplaceable, reason),
                            None => continue,
                        },
                    }
                }
                None => (Code::Superseded, "was deleted meanwhile".to_owned()),
            };
            self.end(&name, code, &text);
        }
    }

    /// Why nothing can go on, once that has been so for a while.
    fn unplaceable(&mut self, name: &str, found: &v1::ServiceStatus) -> Option<String> {
        let is_placement = |w: &&v1::WaitingOnStatus| {
            let waiting = w.waiting_on.as_ref().and_then(|waiting| waiting.kind.as_ref());
            matches!(waiting, Some(v1::waiting_on::Kind::Placement(_)))
        };
        let Some(waiting) = found.waiting_on.iter().find(is_placement) else {
            self.unplaceable_since.remove(name);
            return None;
        };
        let since = *self.unplaceable_since.entry(name.to_owned()).or_insert_with(Instant::now);
        (since.elapsed() >= UNPLACEABLE_PATIENCE).then(|| waiting.text.clone())
    }

    fn give_up(&mut self, last: Option<&v1::StatusResponse>) {
        let names: Vec<String> = self.open.keys().cloned().collect();
        for name in names {
            let found = last.and_then(|status| status.services.iter().find(|s| service_name(s) == name));
            let waits = found.map(describe_progress).unwrap_or_default();
            self.end(&name, Code::DeadlinePassed, &format!("is not done in time: {waits}"));
        }
    }

    fn end(&mut self, name: &str, code: Code, text: &str) {
        self.open.remove(name);
        self.ended.insert(name.to_owned(), code);
        self.progress.end(name, code == Code::Done, text);
    }
}

fn service_name(status: &v1::ServiceStatus) -> String {
    status.service.as_ref().and_then(|service| service.key.as_ref()).map(name_of).unwrap_or_default()
}

/// How a goal ended, if it did.
fn ended(goal: &Goal, found: &v1::ServiceStatus) -> Option<(Code, String)> {
    use v1::rollout::Phase;
    let service = found.service.as_ref()?;
    let rollout = service.rollout.as_ref()?;
    if service.deleting_since_unix_ms.is_some() {
        return Some((Code::Superseded, "is being deleted".to_owned()));
    }
    if rollout.generation > goal.generation && rollout.to != goal.revision {
        return Some((
            Code::Superseded,
            format!("was superseded by another apply (revision {})", rollout.to),
        ));
    }
    if rollout.generation < goal.generation {
        return None;
    }
    match rollout.phase.as_ref()? {
        Phase::Progressing(_) | Phase::RollingBack(_) => None,
        Phase::Completed(_) => {
            let wanted = service.spec.as_ref().map_or(0, |spec| spec.replicas);
            let took = found_duration(rollout);
            Some((Code::Done, format!("runs revision {} with {wanted} available{took}", rollout.to)))
        }
        Phase::RolledBack(back) => {
            let text = format!(
                "revision {} failed: {}; rolled back to revision {}",
                rollout.to, back.reason, back.back_to
            );
            Some((Code::RolledBack, text))
        }
        Phase::Paused(paused) => {
            let text = format!("revision {} failed and the rollout is paused: {}", rollout.to, paused.reason);
            Some((Code::FailedAndPaused, text))
        }
    }
}

fn found_duration(rollout: &v1::Rollout) -> String {
    match &rollout.phase {
        Some(v1::rollout::Phase::Completed(done)) => {
            let took = Timestamp(done.at_unix_ms).since(Timestamp(rollout.started_at_unix_ms));
            format!(" after {}", model::waiting::roughly(took))
        }
        _ => String::new(),
    }
}

/// One line: how far a service is and what it waits for.
pub fn describe_progress(found: &v1::ServiceStatus) -> String {
    let service = found.service.as_ref();
    let wanted = service.and_then(|service| service.spec.as_ref()).map_or(0, |spec| spec.replicas);
    let rollout = service.and_then(|service| service.rollout.as_ref());
    let action = match rollout.and_then(|rollout| rollout.phase.as_ref()) {
        Some(v1::rollout::Phase::RollingBack(back)) => format!("rolling back to revision {}", back.back_to),
        _ => format!("revision {}", rollout.map_or(0, |rollout| rollout.to)),
    };
    let mut line = format!("{action}: {}/{wanted} new, {}/{wanted} ready", found.up_to_date, found.ready);
    if let Some(first) = found.waiting_on.first() {
        line.push_str(&format!("; {}", first.text));
        if found.waiting_on.len() > 1 {
            line.push_str(&format!(" (and {} more)", found.waiting_on.len() - 1));
        }
    }
    line
}
