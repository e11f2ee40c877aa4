//! The results as text: a line per case, a column per orchestrator, and how many times more the second one takes.

use std::fmt::Write;

use crate::{
    cases::{Amount, Case, Measured, Policy, Up},
    memory::Measure,
};

/// What wharf aims at: so many times less than Swarm.
const TIME_AIM: f64 = 20.0;
const MEMORY_AIM: f64 = 5.0;

const LABEL: usize = 68;
const COLUMN: usize = 22;

pub(crate) fn render(columns: &[Measured]) -> String {
    let mut text = format!("{:LABEL$}", "");
    for column in columns {
        let _ = write!(text, "{:>COLUMN$}", column.name);
    }
    text.push_str(if columns.len() > 1 { "     ratio\n" } else { "\n" });
    let cases = columns.first().map(|first| first.amounts.keys()).into_iter().flatten();
    for case in cases {
        let amounts: Vec<Amount> =
            columns.iter().filter_map(|column| column.amounts.get(case).copied()).collect();
        let _ = write!(text, "{:LABEL$}", label(case));
        for amount in &amounts {
            let _ = write!(text, "{:>COLUMN$}", show(*amount));
        }
        if let [ours, theirs] = amounts[..] {
            let _ = write!(text, "{:>9.1}x{}", ratio(ours, theirs), aim(case, ratio(ours, theirs)));
        }
        text.push('\n');
    }
    text.push_str(&parts(columns));
    text
}

fn label(case: &Case) -> String {
    let policy = |policy: &Policy| match policy {
        Policy::Quick => "no pauses",
        Policy::Default => "by default",
    };
    let until = |until: &Up| match until {
        Up::Executed => "last process runs",
        Up::Told => "control plane says so",
    };
    match case {
        Case::Up { replicas, until: end } => format!("apply, {replicas} replicas, until {}", until(end)),
        Case::Restart(how) => format!("kill -9 until the replacement runs, {}", policy(how)),
        Case::Update { policy: how, until: end } => {
            let how = match how {
                Policy::Quick => "start-first one by one",
                Policy::Default => "by default",
            };
            format!("update of 10, {how}, until {}", until(end))
        }
        Case::Memory { replicas, measure } => {
            let measure = match measure {
                Measure::Proportional => "proportional (PSS)",
                Measure::Resident => "resident (RSS)",
            };
            format!("memory with {replicas} replicas, {measure}")
        }
    }
}

fn show(amount: Amount) -> String {
    match amount {
        Amount::Time(time) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        Amount::Bytes(bytes) => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

fn ratio(ours: Amount, theirs: Amount) -> f64 {
    let number = |amount| match amount {
        Amount::Time(time) => time.as_secs_f64(),
        Amount::Bytes(bytes) => bytes as f64,
    };
    number(theirs) / number(ours)
}

fn aim(case: &Case, ratio: f64) -> String {
    let aim = match case {
        Case::Up { replicas: 50, .. } => TIME_AIM,
        Case::Memory { replicas: 50, .. } => MEMORY_AIM,
        Case::Up { .. } | Case::Restart(_) | Case::Update { .. } | Case::Memory { .. } => {
            return String::new();
        }
    };
    format!("  aim {aim}x: {}", if ratio >= aim { "met" } else { "missed" })
}

/// What the memory is made of.
fn parts(columns: &[Measured]) -> String {
    let mut text = String::new();
    for column in columns {
        for (replicas, parts) in &column.parts {
            let _ = writeln!(text, "\n{}, {replicas} replicas: processes, PSS, RSS", column.name);
            for (part, usage) in parts {
                let bytes = |measure| show(Amount::Bytes(usage.bytes(measure)));
                let (pss, rss) = (bytes(Measure::Proportional), bytes(Measure::Resident));
                let _ = writeln!(text, "  {part:12}{:>4}{pss:>12}{rss:>12}", usage.processes);
            }
        }
    }
    text
}
