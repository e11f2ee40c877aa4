//! `wharf scale`: another number of replicas.

use anstream::println;
use proto::v1;

use crate::{
    args::{self, Global},
    connect::Client,
    deploy::{Goal, name_of},
    exit::{Code, Failure},
    verbs::apply::wait_if_asked,
};

pub async fn run(client: &mut Client, global: &Global, args: args::Scale) -> Result<Code, Failure> {
    let service = args.service.key(&global.namespace);
    let request = v1::ScaleRequest { service: Some(service.clone()), replicas: args.replicas };
    let answer = client.scale(request).await?.into_inner();
    let name = name_of(&service);
    if answer.previous_replicas == args.replicas {
        println!("service {name} unchanged ({} replicas)", args.replicas);
    } else {
        println!("service {name} scaled from {} to {}", answer.previous_replicas, args.replicas);
    }
    let goal = Goal { service, generation: answer.generation, revision: answer.revision };
    wait_if_asked(client, goal, &args.waiting).await
}
