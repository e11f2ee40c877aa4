//! The fields of `apply`, and amounts.

use model::{CountOrPercent, Millis, OnFailure, OnPartition, ServiceSpec, UpdateOrder};

/// Sets what `name=value` says; none if it says nothing known.
pub(crate) fn field(spec: &mut ServiceSpec, field: &str) -> Option<()> {
    let (name, value) = field.split_once('=')?;
    let update = &mut spec.update;
    match name {
        "template" => spec.template = crate::support::spec(value.parse().ok()?).template,
        "replicas" => spec.replicas = value.parse().ok()?,
        "surge" => update.max_surge = share(value)?,
        "unavailable" => update.max_unavailable = share(value)?,
        "order" => update.order = order(value)?,
        "min-ready" => update.min_ready = millis(value),
        "healthy-deadline" => update.healthy_deadline = millis(value),
        "progress-deadline" => update.progress_deadline = millis(value),
        "loss" => spec.node_loss.replace_after = millis(value),
        "on-partition" => {
            let stops = value == "stop";
            spec.template.on_partition = if stops { OnPartition::Stop } else { OnPartition::Continue };
        }
        "needs" => {
            let (label, value) = value.split_once(':')?;
            spec.placement.nodes.insert(label.to_owned(), value.to_owned());
        }
        "on-failure" => update.on_failure = on_failure(value)?,
        _ => return None,
    }
    Some(())
}

fn order(text: &str) -> Option<UpdateOrder> {
    match text {
        "start-first" => Some(UpdateOrder::StartFirst),
        "stop-first" => Some(UpdateOrder::StopFirst),
        _ => None,
    }
}

fn on_failure(text: &str) -> Option<OnFailure> {
    match text {
        "rollback" => Some(OnFailure::Rollback),
        "pause" => Some(OnFailure::Pause),
        "continue" => Some(OnFailure::Continue),
        _ => None,
    }
}

fn share(text: &str) -> Option<CountOrPercent> {
    match text.strip_suffix('%') {
        Some(percent) => Some(CountOrPercent::Percent(percent.parse().ok()?)),
        None => Some(CountOrPercent::Count(text.parse().ok()?)),
    }
}

pub(crate) fn millis(text: &str) -> Millis {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap();
    let (amount, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => panic!("{text:?} is no span of time"),
    };
    Millis(amount.parse::<u64>().unwrap() * scale)
}
