//! What an apply would change, or changed.

use manifest::{Declared, Manifest, Style};
use model::{Service, ServiceSpec};
use owo_colors::OwoColorize;
use proto::v1::{self, apply_result::Outcome};

use super::{text::count, words};
use crate::{answer::understood, exit::Failure};

/// How much of a service that is new is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// In a line: who applies a manifest knows what is in it.
    Summary,
    /// Every field.
    Fields,
}

/// One service: what would happen to it, and the fields that differ. With the colours of a diff.
pub fn plan(manifest: &Manifest, result: &v1::ApplyResult, detail: Detail) -> Result<String, Failure> {
    let name = &manifest.key;
    let revision = result.revision;
    let mut text = match result.outcome() {
        Outcome::Created => {
            let text = format!("service {name} {}", "will be created".green());
            match detail {
                Detail::Summary => return Ok(format!("{text}: {}\n", summary(&manifest.spec))),
                Detail::Fields => text + "\n",
            }
        }
        Outcome::Changed if result.rollout => {
            let all = if manifest.spec.replicas == 1 { "its replica is" } else { "its replicas are" };
            format!("service {name} {}: {all} replaced by revision {revision}\n", "will be changed".yellow())
        }
        Outcome::Changed => {
            format!("service {name} {}: revision {revision} stays\n", "will be changed".yellow())
        }
        Outcome::Unchanged => return Ok(format!("service {name} is unchanged (revision {revision})\n")),
        Outcome::Unspecified => format!("service {name}\n"),
    };
    let previous = understood(result.previous.clone().map(Service::try_from).transpose())?;
    let resolved = understood(result.resolved.clone().map(ServiceSpec::try_from).transpose())?;
    let Manifest { key, labels, annotations, spec, .. } = manifest;
    let new = Declared { key, labels, annotations, spec: resolved.as_ref().unwrap_or(spec) };
    let changes = manifest::diff(previous.as_ref().map(Declared::from), new);
    for line in manifest::render_diff(&changes, &Style::COLOURS).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    Ok(text)
}

/// One service: what happened to it.
pub fn done(result: &v1::ApplyResult) -> Result<String, Failure> {
    let key = understood(model::ServiceKey::try_from(result.service.clone().unwrap_or_default()))?;
    let revision = result.revision;
    Ok(match result.outcome() {
        Outcome::Created => format!("service {key} {} (revision {revision})", "created".green()),
        Outcome::Changed => format!("service {key} {} (revision {revision})", "changed".yellow()),
        Outcome::Unchanged => format!("service {key} unchanged (revision {revision})"),
        Outcome::Unspecified => format!("service {key} applied (revision {revision})"),
    })
}

fn summary(spec: &ServiceSpec) -> String {
    let replicas = count(spec.replicas, "replica");
    let ports = match words::published(spec) {
        ports if ports == words::NOTHING => String::new(),
        ports => format!(", published {ports}"),
    };
    format!("{replicas} of {}{ports}", spec.template.main.image.reference)
}

pub fn differs(result: &v1::ApplyResult) -> bool {
    result.outcome() != Outcome::Unchanged
}
