//! What was measured, as text: medians over the rounds, and how they stand to etcd's.

use std::{fmt::Write as _, time::Duration};

use super::{Cell, Round, SUBJECTS, Subject, wharf::Change};
use crate::memory::{self, Measure, Usage};

pub(super) fn header() -> String {
    let columns = "writes/s      p50      p99    ratio to etcd: rate   p50   p99 (larger is faster)";
    format!("{:52}{columns}", "")
}

/// A line for each subject. A ratio of 2 means twice the rate, or half the time.
pub(super) fn cell(cell: Cell, measured: &[Vec<Round>; 3]) -> String {
    let medians = measured.each_ref().map(|rounds| median(rounds));
    let etcd = medians[0];
    let mut text = String::new();
    for (subject, round) in SUBJECTS.into_iter().zip(medians) {
        let name = format!("{}, {}, {}", members(cell.members), clients(cell.clients), name(subject));
        let Round { per_second, p50, p99 } = round;
        let (ms50, ms99) = (millis(p50), millis(p99));
        let _ = write!(text, "{name:52}{per_second:8.0} {ms50:5.2} ms {ms99:5.2} ms");
        if subject != Subject::Etcd {
            let faster = |theirs: Duration, ours: Duration| theirs.as_secs_f64() / ours.as_secs_f64();
            let rate = per_second / etcd.per_second;
            let (p50, p99) = (faster(etcd.p50, p50), faster(etcd.p99, p99));
            let _ = write!(text, "{rate:20.2} {p50:5.2} {p99:5.2}");
        }
        text.push('\n');
    }
    text
}

pub(super) fn memory(count: usize, etcd: &[i32], wharf: &[i32]) -> String {
    let each = |pids: &[i32]| {
        let usage: Usage = pids.iter().map(|pid| memory::of(*pid)).sum();
        usage.bytes(Measure::Resident) as f64 / pids.len() as f64 / f64::from(1 << 20)
    };
    let (etcd, wharf) = (each(etcd), each(wharf));
    format!("{}, resident after all this, each: etcd {etcd:.0} MiB, wharf {wharf:.0} MiB\n", members(count))
}

fn median(rounds: &[Round]) -> Round {
    fn middle<T: Copy>(mut of: Vec<T>, compare: impl Fn(&T, &T) -> std::cmp::Ordering) -> T {
        of.sort_by(compare);
        of[of.len() / 2]
    }
    Round {
        per_second: middle(rounds.iter().map(|round| round.per_second).collect(), f64::total_cmp),
        p50: middle(rounds.iter().map(|round| round.p50).collect(), Ord::cmp),
        p99: middle(rounds.iter().map(|round| round.p99).collect(), Ord::cmp),
    }
}

fn name(subject: Subject) -> &'static str {
    match subject {
        Subject::Etcd => "etcd put",
        Subject::Wharf(Change::Template) => "wharf apply, a template",
        Subject::Wharf(Change::Annotation) => "wharf apply, a note",
    }
}

fn members(count: usize) -> String {
    format!("{count} member{}", if count == 1 { "" } else { "s" })
}

fn clients(count: usize) -> String {
    format!("{count} client{}", if count == 1 { "" } else { "s" })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
