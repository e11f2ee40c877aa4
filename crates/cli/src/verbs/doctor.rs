//! `wharf doctor`: what this host can do, found by trying, and what each lack costs.

use anstream::println;
use owo_colors::OwoColorize;

use crate::{
    args::{self, Output},
    exit::{Code, Failure},
    output::text,
};

/// One finding.
struct Finding {
    part: &'static str,
    name: String,
    status: Status,
    detail: String,
    cost: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    Warning,
    Missing,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Missing => "missing",
        }
    }
}

pub fn run(args: args::Doctor) -> Result<Code, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("the checks try things that only root may do").help("use sudo"));
    }
    let findings = findings();
    match args.output {
        Output::Json | Output::Yaml => {
            let list: Vec<_> = findings.iter().map(as_json).collect();
            let value = serde_json::Value::from(list);
            if args.output == Output::Json { text::print_json(&value)? } else { text::print_yaml(&value) }
        }
        Output::Table | Output::Wide | Output::Name => findings.iter().for_each(print),
    }
    let missing = findings.iter().filter(|finding| finding.status == Status::Missing).count();
    if missing > 0 {
        return Err(Failure::new(format!("{missing} thing(s) that wharf needs are missing")));
    }
    Ok(Code::Done)
}

fn findings() -> Vec<Finding> {
    let runtime = runtime::doctor().into_iter().map(|check| Finding {
        part: "runtime",
        name: check.name.to_string(),
        status: match check.status {
            runtime::CheckStatus::Ok => Status::Ok,
            runtime::CheckStatus::Warning => Status::Warning,
            runtime::CheckStatus::Missing => Status::Missing,
        },
        detail: check.detail.to_string(),
        cost: Some(check.cost.to_string()).filter(|cost| !cost.is_empty()),
    });
    let network = network::doctor().into_iter().map(|check| Finding {
        part: "network",
        name: check.name.to_owned(),
        status: match check.status {
            network::Status::Ok => Status::Ok,
            network::Status::Warning => Status::Warning,
            network::Status::Missing => Status::Missing,
        },
        detail: check.detail,
        cost: Some(check.cost.to_owned()).filter(|cost| !cost.is_empty()),
    });
    runtime.chain(network).collect()
}

fn print(finding: &Finding) {
    let status = match finding.status {
        Status::Ok => format!("{:<8}", "ok").green().to_string(),
        Status::Warning => format!("{:<8}", "warning").yellow().to_string(),
        Status::Missing => format!("{:<8}", "missing").red().to_string(),
    };
    println!("{status} {:<22} {}", finding.name, finding.detail);
    if let Some(cost) = &finding.cost {
        println!("{:<32}{}", "", cost.dimmed());
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "part": finding.part,
        "name": finding.name,
        "status": finding.status.as_str(),
        "detail": finding.detail,
        "cost": finding.cost,
    })
}
