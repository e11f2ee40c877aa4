//! `wharf scale`: another number of replicas.

use proto::v1;

use crate::{
    args::{self, Global},
    ask,
    connect::Client,
    exit::{Code, Failure},
    output::{say, text::count},
    wait::{self, Goal},
};

pub async fn run(client: &mut Client, global: &Global, args: args::Scale) -> Result<Code, Failure> {
    let service = args.service.key(&global.namespace);
    let replicas = args.replicas();
    let request = v1::ScaleRequest { service: Some(v1::ServiceKey::from(&service)), replicas };
    let answer = match client.scale(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Err(ask::refused(client, &[service], status).await),
    };
    match answer.previous_replicas {
        previous if previous == replicas => {
            say(format_args!("service {service} unchanged ({})", count(replicas, "replica")));
        }
        previous => say(format_args!("service {service} scaled from {previous} to {replicas}")),
    }
    let goal = Goal::runs(service, answer.generation, answer.revision);
    wait::if_asked(client, vec![goal], &args.waiting).await
}
