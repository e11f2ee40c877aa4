//! Log streams: what is in the log files of a replica's containers, merged by time, and then what is added to them.
//!
//! The files outlive the replica for a while, so the logs of one that failed can still be read.

use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use model::{Name, Observed, Phase, ReplicaId, ServiceKey};
use proto::v1::{self, relay_frame::Frame};
use runtime::logs::{self, From, LogFollower, LogLine, Stream};
use tokio::{
    io::Interest,
    sync::{mpsc, oneshot},
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use super::{Broken, Gone, Peer};
use crate::{
    agent::{Happened, Sender},
    host::{Host, chain},
    readiness,
};

/// How often a stream that follows looks whether its replica can still say anything.
const LOOK: Duration = Duration::from_secs(1);

/// What is wanted of one container's log.
#[derive(Clone, Debug)]
struct Wanted {
    container: Name,
    path: PathBuf,
    tail: Option<usize>,
    since_unix_ms: Option<u64>,
    /// Of the run before this one: from and to, in milliseconds since the Unix epoch.
    run: Option<RangeInclusive<u64>>,
}

/// Makes frames of lines.
#[derive(Clone, Copy, Debug)]
struct Origin {
    replica: ReplicaId,
    slot: u32,
}

pub(super) async fn serve(
    host: &Host,
    asked: v1::open::NodeLogs,
    peer: &mut Peer,
    happened: &Sender,
) -> Result<(), Broken> {
    let replica = ReplicaId(asked.replica);
    let request =
        asked.request.ok_or_else(|| Broken::Failed("the request does not say what is wanted".to_owned()))?;
    let observed = observed(happened, replica).await?;
    let dir = host.log_dir(&service(&request)?, replica);
    let wanted = wanted(&dir, &request, observed.as_ref()).map_err(Broken::Failed)?;
    let origin = Origin { replica, slot: host.sandbox(replica).map_or(0, |sandbox| sandbox.slot.get()) };
    if request.follow && !request.previous {
        follow(wanted, origin, peer, happened).await
    } else {
        let read = move || -> Result<Vec<(Name, LogLine)>, logs::LogError> {
            let mut lines = Vec::new();
            for one in wanted {
                lines.extend(one.read()?.into_iter().map(|line| (one.container.clone(), line)));
            }
            Ok(lines)
        };
        let lines =
            spawn_blocking(read).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(origin.say_all(lines, peer).await?)
    }
}

fn service(request: &v1::LogsRequest) -> Result<ServiceKey, Broken> {
    let name =
        |text: &str| text.parse::<Name>().map_err(|error| Broken::Failed(format!("{text:?}: {error}")));
    let namespace = if request.namespace.is_empty() { "default" } else { &request.namespace };
    Ok(ServiceKey { namespace: name(namespace)?, name: name(&request.service)? })
}

/// One per container that is asked for and has, or can have, a log.
fn wanted(dir: &Path, request: &v1::LogsRequest, observed: Option<&Observed>) -> Result<Vec<Wanted>, String> {
    let names = container_names(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "this node has no logs of the replica (any more)".to_owned(),
        _ => format!("cannot read {}: {error}", dir.display()),
    })?;
    let known = observed.iter().flat_map(|observed| observed.containers.iter().map(|c| c.name.clone()));
    let mut names: Vec<Name> = names.into_iter().chain(known).collect();
    names.sort();
    names.dedup();
    if let Some(only) = &request.container {
        names.retain(|name| name.as_str() == only);
        if names.is_empty() {
            return Err(format!("the replica has no container {only}"));
        }
    }
    let one = |container: Name| {
        let run = match request.previous {
            true => Some(previous_run(&container, observed)?),
            false => None,
        };
        let path = dir.join(format!("{container}.log"));
        let tail = request.tail.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX));
        Ok(Wanted { container, path, tail, since_unix_ms: request.since_unix_ms, run })
    };
    names.into_iter().map(one).collect()
}

fn container_names(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok()));
    }
    Ok(names)
}

fn previous_run(container: &Name, observed: Option<&Observed>) -> Result<RangeInclusive<u64>, String> {
    let containers = observed.map(|observed| &observed.containers[..]).unwrap_or_default();
    let exit =
        containers.iter().find(|known| known.name == *container).and_then(|known| known.last_exit.as_ref());
    let exit = exit.ok_or_else(|| format!("container {container} has no run before this one"))?;
    Ok(exit.at.0.saturating_sub(exit.ran_for.0)..=exit.at.0)
}

impl Wanted {
    fn read(&self) -> Result<Vec<LogLine>, logs::LogError> {
        let Some(run) = &self.run else { return logs::read(&self.path, self.tail, self.since_unix_ms) };
        let mut lines = logs::read(&self.path, None, Some(*run.start()))?;
        lines.retain(|line| run.contains(&(line.unix_ns / 1_000_000)));
        Ok(self.last(lines))
    }

    /// Of all lines so far, those that are wanted.
    fn last(&self, mut lines: Vec<LogLine>) -> Vec<LogLine> {
        lines.retain(|line| self.since_unix_ms.is_none_or(|since| line.unix_ns / 1_000_000 >= since));
        lines.split_off(lines.len().saturating_sub(self.tail.unwrap_or(usize::MAX)))
    }
}

/// What is there already, merged; then each container's lines as they come, until nothing more can come.
async fn follow(
    wanted: Vec<Wanted>,
    origin: Origin,
    peer: &mut Peer,
    happened: &Sender,
) -> Result<(), Broken> {
    let open = move || -> Result<_, logs::LogError> {
        let (mut followers, mut lines) = (Vec::new(), Vec::new());
        for one in wanted {
            // From the beginning, so that no line falls between what was there and what is added.
            let mut follower = LogFollower::open(&one.path, From::Beginning)?;
            let before = one.last(follower.poll_lines()?);
            lines.extend(before.into_iter().map(|line| (one.container.clone(), line)));
            followers.push((one.container, follower));
        }
        Ok((followers, lines))
    };
    let opened = spawn_blocking(open).await.map_err(|error| failed(&error))?;
    let (followers, lines) = opened.map_err(|error| failed(&error))?;
    origin.say_all(lines, peer).await?;
    let mut following = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (container, follower) in followers {
        following.spawn(follow_one(container, follower, origin, peer.voice(), stopped.clone()));
    }
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // The server says nothing in such a stream: it can only end it.
            frame = peer.hear() => { frame?; }
            _ = look.tick() => if is_over(observed(happened, origin.replica).await?.as_ref()) { break },
        }
    }
    stop.send_replace(true);
    while let Some(followed) = following.join_next().await {
        followed.map_err(|error| failed(&error))??;
    }
    Ok(())
}

fn is_over(observed: Option<&Observed>) -> bool {
    observed.is_none_or(|observed| match observed.phase {
        Phase::Assigned | Phase::Preparing | Phase::Prepared | Phase::Running | Phase::Stopping => false,
        Phase::Completed | Phase::Failed | Phase::Removed => true,
    })
}

async fn follow_one(
    container: Name,
    mut follower: LogFollower,
    origin: Origin,
    voice: mpsc::Sender<v1::RelayFrame>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Broken> {
    let watched = readiness::of(&follower, Interest::READABLE).map_err(|error| failed(&error))?;
    loop {
        let last = tokio::select! {
            ready = watched.readable() => {
                ready.map_err(|error| failed(&error))?.clear_ready();
                false
            }
            // What was written until now is still said.
            _ = stopped.wait_for(|stopped| *stopped) => true,
        };
        for line in follower.poll_lines().map_err(|error| failed(&error))? {
            let frame = v1::RelayFrame { frame: Some(origin.frame(&container, line)) };
            voice.send(frame).await.map_err(|_| Broken::Gone)?;
        }
        if last {
            return Ok(());
        }
    }
}

impl Origin {
    async fn say_all(self, mut lines: Vec<(Name, LogLine)>, peer: &Peer) -> Result<(), Gone> {
        // Stable: the lines of one container keep their order, whatever its clock did.
        lines.sort_by_key(|(_, line)| line.unix_ns);
        for (container, line) in lines {
            peer.say(self.frame(&container, line)).await?;
        }
        Ok(())
    }

    fn frame(self, container: &Name, line: LogLine) -> Frame {
        let stream = match line.stream {
            Stream::Stdout => v1::OutputStream::Stdout,
            Stream::Stderr => v1::OutputStream::Stderr,
        };
        Frame::LogLine(v1::LogLine {
            replica: self.replica.0,
            slot: self.slot,
            container: container.to_string(),
            stream: stream.into(),
            unix_ns: line.unix_ns,
            text: line.text.into(),
            partial: !line.complete,
        })
    }
}

async fn observed(happened: &Sender, replica: ReplicaId) -> Result<Option<Observed>, Broken> {
    let (answer, asked) = oneshot::channel();
    happened.send(Happened::Asked { replica, answer }).map_err(|_| Broken::Gone)?;
    asked.await.map_err(|_| Broken::Gone)
}

fn failed(error: &dyn std::error::Error) -> Broken {
    Broken::Failed(chain(error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn log(lines: &[(u64, &str)]) -> String {
        let line = |(second, text): &(u64, &str)| {
            format!("1970-01-01T00:00:{second:02}.000000000Z stdout F {text}\n")
        };
        lines.iter().map(line).collect()
    }

    fn texts(wanted: &Wanted) -> Vec<String> {
        let lines = wanted.read().unwrap();
        lines.into_iter().map(|line| String::from_utf8(line.text).unwrap()).collect()
    }

    #[test]
    fn a_tail_a_time_and_a_run_select_lines() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("main.log"), log(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])).unwrap();
        let request = v1::LogsRequest { service: "web".into(), ..Default::default() };
        let all = wanted(dir.path(), &request, None).unwrap().remove(0);
        assert_eq!(texts(&all), ["a", "b", "c", "d"]);
        assert_eq!(texts(&Wanted { tail: Some(2), ..all.clone() }), ["c", "d"]);
        assert_eq!(texts(&Wanted { since_unix_ms: Some(3_000), ..all.clone() }), ["c", "d"]);
        assert_eq!(texts(&Wanted { run: Some(2_000..=3_000), ..all.clone() }), ["b", "c"]);
        assert_eq!(texts(&Wanted { run: Some(2_000..=3_000), tail: Some(1), ..all }), ["c"]);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("main.log"), "").unwrap();
        let request = |container: &str, previous| v1::LogsRequest {
            service: "web".into(),
            container: Some(container.into()),
            previous,
            ..Default::default()
        };
        let refused = |dir: &Path, request| wanted(dir, &request, None).unwrap_err();
        assert_eq!(refused(dir.path(), request("proxy", false)), "the replica has no container proxy");
        assert_eq!(refused(dir.path(), request("main", true)), "container main has no run before this one");
        let missing = refused(&dir.path().join("x"), request("main", false));
        assert_eq!(missing, "this node has no logs of the replica (any more)");
    }
}
