//! Service specs and replica templates. Their containers are in [`crate::container`].

use model::{Name, NodeLoss, OnPartition, PlacementRules, ServiceKey, ServiceSpec};

use crate::{
    error::{DecodeError, Within},
    field, v1,
};

field::same_variants! {
    UpdateOrder { StartFirst, StopFirst }
    OnFailure { Rollback, Pause, Continue }
    Protocol { Tcp, Udp }
    RestartWhen { Always, OnFailure, Never }
}

impl From<&ServiceKey> for v1::ServiceKey {
    fn from(key: &ServiceKey) -> Self {
        v1::ServiceKey { namespace: key.namespace.to_string(), name: key.name.to_string() }
    }
}

impl TryFrom<v1::ServiceKey> for ServiceKey {
    type Error = DecodeError;
    fn try_from(wire: v1::ServiceKey) -> Result<Self, DecodeError> {
        Ok(ServiceKey {
            namespace: field::parsed(&wire.namespace, "namespace")?,
            name: field::parsed(&wire.name, "name")?,
        })
    }
}

impl From<&ServiceSpec> for v1::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        v1::ServiceSpec {
            replicas: spec.replicas,
            update: Some((&spec.update).into()),
            template: Some((&spec.template).into()),
            placement: Some(&spec.placement).filter(|rules| !rules.is_empty()).map(Into::into),
            replace_after_ms: spec.node_loss.replace_after.0,
        }
    }
}

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = DecodeError;
    fn try_from(wire: v1::ServiceSpec) -> Result<Self, DecodeError> {
        Ok(ServiceSpec {
            replicas: wire.replicas,
            update: field::required(wire.update, "update")?,
            placement: wire.placement.map(PlacementRules::from).unwrap_or_default(),
            node_loss: NodeLoss { replace_after: model::Millis(wire.replace_after_ms) },
            template: field::required(wire.template, "template")?,
        })
    }
}

impl From<&PlacementRules> for v1::PlacementRules {
    fn from(rules: &PlacementRules) -> Self {
        v1::PlacementRules { nodes: rules.nodes.clone(), spread: rules.spread.clone() }
    }
}

impl From<v1::PlacementRules> for PlacementRules {
    fn from(wire: v1::PlacementRules) -> Self {
        PlacementRules { nodes: wire.nodes, spread: wire.spread }
    }
}

impl From<OnPartition> for v1::OnPartition {
    fn from(on_partition: OnPartition) -> Self {
        match on_partition {
            OnPartition::Continue => v1::OnPartition::Continue,
            OnPartition::Stop => v1::OnPartition::Stop,
        }
    }
}

impl TryFrom<v1::OnPartition> for OnPartition {
    type Error = DecodeError;
    fn try_from(wire: v1::OnPartition) -> Result<Self, DecodeError> {
        Ok(match wire {
            v1::OnPartition::Continue => OnPartition::Continue,
            v1::OnPartition::Stop => OnPartition::Stop,
        })
    }
}

impl From<&model::UpdatePolicy> for v1::UpdatePolicy {
    fn from(policy: &model::UpdatePolicy) -> Self {
        v1::UpdatePolicy {
            max_surge: Some((&policy.max_surge).into()),
            max_unavailable: Some((&policy.max_unavailable).into()),
            order: v1::UpdateOrder::from(policy.order).into(),
            min_ready_ms: policy.min_ready.0,
            healthy_deadline_ms: policy.healthy_deadline.0,
            progress_deadline_ms: policy.progress_deadline.0,
            on_failure: v1::OnFailure::from(policy.on_failure).into(),
        }
    }
}

impl TryFrom<v1::UpdatePolicy> for model::UpdatePolicy {
    type Error = DecodeError;
    fn try_from(wire: v1::UpdatePolicy) -> Result<Self, DecodeError> {
        Ok(model::UpdatePolicy {
            max_surge: field::required(wire.max_surge, "max_surge")?,
            max_unavailable: field::required(wire.max_unavailable, "max_unavailable")?,
            order: field::value::<v1::UpdateOrder, _>(wire.order, "order")?,
            min_ready: model::Millis(wire.min_ready_ms),
            healthy_deadline: model::Millis(wire.healthy_deadline_ms),
            progress_deadline: model::Millis(wire.progress_deadline_ms),
            on_failure: field::value::<v1::OnFailure, _>(wire.on_failure, "on_failure")?,
        })
    }
}

impl From<&model::CountOrPercent> for v1::CountOrPercent {
    fn from(amount: &model::CountOrPercent) -> Self {
        use v1::count_or_percent::Amount;
        let amount = match *amount {
            model::CountOrPercent::Count(count) => Amount::Count(count),
            model::CountOrPercent::Percent(percent) => Amount::Percent(percent.into()),
        };
        v1::CountOrPercent { amount: Some(amount) }
    }
}

impl TryFrom<v1::CountOrPercent> for model::CountOrPercent {
    type Error = DecodeError;
    fn try_from(wire: v1::CountOrPercent) -> Result<Self, DecodeError> {
        use v1::count_or_percent::Amount;
        Ok(match field::kind(wire.amount, "amount")? {
            Amount::Count(count) => model::CountOrPercent::Count(count),
            Amount::Percent(percent) => {
                model::CountOrPercent::Percent(field::ranged(percent, 0..=100, "percent")?)
            }
        })
    }
}

impl From<&model::ReplicaTemplate> for v1::ReplicaTemplate {
    fn from(template: &model::ReplicaTemplate) -> Self {
        v1::ReplicaTemplate {
            main: Some((&template.main).into()),
            sidecars: template.sidecars.iter().map(Into::into).collect(),
            init: template.init.iter().map(Into::into).collect(),
            ports: template.ports.iter().map(Into::into).collect(),
            restart: Some((&template.restart).into()),
            stop_grace_ms: template.stop_grace.0,
            restart_nonce: template.restart_nonce,
            on_partition: v1::OnPartition::from(template.on_partition).into(),
        }
    }
}

impl TryFrom<v1::ReplicaTemplate> for model::ReplicaTemplate {
    type Error = DecodeError;
    fn try_from(wire: v1::ReplicaTemplate) -> Result<Self, DecodeError> {
        Ok(model::ReplicaTemplate {
            main: field::required(wire.main, "main")?,
            sidecars: field::list(wire.sidecars, "sidecars")?,
            init: field::list(wire.init, "init")?,
            ports: field::list(wire.ports, "ports")?,
            restart: field::required(wire.restart, "restart")?,
            stop_grace: model::Millis(wire.stop_grace_ms),
            on_partition: field::value::<v1::OnPartition, _>(wire.on_partition, "on_partition")?,
            restart_nonce: wire.restart_nonce,
        })
    }
}

impl From<&model::Port> for v1::Port {
    fn from(port: &model::Port) -> Self {
        v1::Port {
            name: port.name.to_string(),
            port: port.port.into(),
            protocol: v1::Protocol::from(port.protocol).into(),
            publish: port.publish.map(u32::from),
        }
    }
}

impl TryFrom<v1::Port> for model::Port {
    type Error = DecodeError;
    fn try_from(wire: v1::Port) -> Result<Self, DecodeError> {
        Ok(model::Port {
            name: field::parsed::<Name>(&wire.name, "name")?,
            port: field::port(wire.port, "port")?,
            protocol: field::value::<v1::Protocol, _>(wire.protocol, "protocol")?,
            publish: wire.publish.map(|port| field::port(port, "publish")).transpose()?,
        })
    }
}

impl From<&model::RestartPolicy> for v1::RestartPolicy {
    fn from(policy: &model::RestartPolicy) -> Self {
        v1::RestartPolicy {
            when: v1::RestartWhen::from(policy.when).into(),
            backoff: Some(v1::Backoff {
                base_ms: policy.backoff.base.0,
                max_ms: policy.backoff.max.0,
                reset_after_ms: policy.backoff.reset_after.0,
            }),
        }
    }
}

impl TryFrom<v1::RestartPolicy> for model::RestartPolicy {
    type Error = DecodeError;
    fn try_from(wire: v1::RestartPolicy) -> Result<Self, DecodeError> {
        let backoff = wire.backoff.ok_or(crate::error::Problem::Missing).within("backoff")?;
        Ok(model::RestartPolicy {
            when: field::value::<v1::RestartWhen, _>(wire.when, "when")?,
            backoff: model::Backoff {
                base: model::Millis(backoff.base_ms),
                max: model::Millis(backoff.max_ms),
                reset_after: model::Millis(backoff.reset_after_ms),
            },
        })
    }
}
