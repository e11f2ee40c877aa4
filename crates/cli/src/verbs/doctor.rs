//! `wharf doctor`: what this host can do, found by trying, and what each lack costs.

use std::path::Path;

use owo_colors::OwoColorize;

use crate::{
    args,
    exit::{Code, Failure},
    output::{
        print,
        text::{Format, count},
    },
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
    // The root folder is there.
    let existing = args.data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let findings = findings(existing);
    match Format::of(args.output) {
        Some(format) => format.print(&findings.iter().map(as_json).collect())?,
        None => print(&findings.iter().map(render).collect::<String>())?,
    }
    let missing = findings.iter().filter(|finding| finding.status == Status::Missing).count();
    if missing > 0 {
        return Err(Failure::new(format!(
            "this host lacks {} that wharf needs",
            count(missing as u64, "thing")
        )));
    }
    Ok(Code::Done)
}

fn findings(data: &Path) -> Vec<Finding> {
    let runtime = runtime::doctor(data).into_iter().map(|check| Finding {
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

fn render(finding: &Finding) -> String {
    let status = format!("{:<8}", finding.status.as_str());
    let status = match finding.status {
        Status::Ok => status.green().to_string(),
        Status::Warning => status.yellow().to_string(),
        Status::Missing => status.red().to_string(),
    };
    let mut text = format!("{status} {:<22} {}\n", finding.name, finding.detail);
    if let Some(cost) = &finding.cost {
        text.push_str(&format!("{:<32}{}\n", "", cost.dimmed()));
    }
    text
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
