//! Commands in containers.

use proto::v1::{
    self, Reason,
    exec_input::Input,
    exec_output::{Exited, Output, exited::How},
    open,
    relay_frame::Frame,
    replica_selector::Replica,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    agent::{Agent, Relay, ready, running},
    fixture::{Server, in_time, until_ready, web},
};

/// A user's command: what goes in, and what comes out.
struct Command {
    input: mpsc::Sender<v1::ExecInput>,
    output: Streaming<v1::ExecOutput>,
}

impl Command {
    async fn start(server: &Server, replica: Option<Replica>) -> Result<Command, Status> {
        let replica = replica.map(|replica| v1::ReplicaSelector { replica: Some(replica) });
        let service = "web".to_owned();
        let start = v1::ExecStart { service, replica, stdin: true, ..v1::ExecStart::default() };
        let (input, inputs) = mpsc::channel(8);
        input.send(v1::ExecInput { input: Some(Input::Start(start)) }).await.unwrap();
        let output = server.control().await.exec(ReceiverStream::new(inputs)).await?.into_inner();
        Ok(Command { input, output })
    }

    async fn next(&mut self) -> Result<Option<Output>, Status> {
        Ok(in_time("output", self.output.message()).await?.and_then(|output| output.output))
    }
}

/// The replica that a stream is for.
fn replica_of(relay: &Relay) -> u64 {
    match &relay.request {
        open::Request::Exec(wanted) => wanted.replica,
        other => panic!("{other:?}"),
    }
}

fn says(output: Output) -> Frame {
    Frame::ExecOutput(v1::ExecOutput { output: Some(output) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_hears_its_user_and_the_user_hears_it() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    server.control().await.apply(web("replicas: 1")).await.unwrap();
    agent.wanted(1).await;
    agent.run_all().await;
    until_ready(&server, 1).await;
    let (command, relay) = tokio::join!(Command::start(&server, None), agent.relay());
    let (mut command, mut relay) = (command.unwrap(), relay);
    command.input.send(v1::ExecInput { input: Some(Input::Stdin("hello".into())) }).await.unwrap();
    let Some(Frame::ExecInput(v1::ExecInput { input: Some(Input::Stdin(heard)) })) = relay.hear().await
    else {
        panic!("the command hears what its user says");
    };
    relay.say(says(Output::Stdout(heard))).await;
    assert_eq!(command.next().await.unwrap(), Some(Output::Stdout("hello".into())));
    // The end of the user's words is not the end of the command.
    drop(command.input);
    let exited = Output::Exited(Exited { how: Some(How::Code(3)) });
    relay.say(says(exited.clone())).await;
    relay.end().await;
    let ended = in_time("its end", command.output.message()).await.unwrap().unwrap();
    assert_eq!(ended.output, Some(exited));
    assert_eq!(in_time("the end", command.output.message()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_ready_comes_first() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    server.control().await.apply(web("replicas: 3")).await.unwrap();
    let wanted = agent.wanted(3).await;
    let status = Command::start(&server, None).await.err().unwrap();
    assert_eq!(proto::reason::reason(&status), Some(Reason::NotRunning), "{status:?}");

    // The first has not started, the second is not ready.
    agent.report(vec![running(wanted[1].replica), ready(wanted[2].replica)]).await;
    until_ready(&server, 1).await;
    let (_command, relay) = tokio::join!(Command::start(&server, None), agent.relay());
    assert_eq!(replica_of(&relay), wanted[2].replica.0);
    let (_command, relay) = tokio::join!(Command::start(&server, Some(Replica::Slot(2))), agent.relay());
    assert_eq!(replica_of(&relay), wanted[1].replica.0);
    let only = Replica::Id(wanted[0].replica.0);
    let status = Command::start(&server, Some(only)).await.err().unwrap();
    assert_eq!(proto::reason::reason(&status), Some(Reason::NotRunning), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_silent_is_passed_over_or_named() {
    let server = Server::start().await;
    let (mut first, mut second) = (Agent::start(&server, 1).await, Agent::start(&server, 2).await);
    server.control().await.apply(web("replicas: 2")).await.unwrap();
    let (on_first, on_second) = (first.wanted(1).await.remove(0), second.wanted(1).await.remove(0));
    first.run_all().await;
    second.run_all().await;
    until_ready(&server, 2).await;
    drop(first);
    // Whichever it asks first, the one that answers is on the second node.
    let relay = async {
        let relay = second.relay().await;
        assert_eq!(replica_of(&relay), on_second.replica.0);
        relay
    };
    let command = crate::fixture::eventually("a command starts", || Command::start(&server, None));
    tokio::join!(command, relay);
    let only = Replica::Id(on_first.replica.0);
    let status = Command::start(&server, Some(only)).await.err().unwrap();
    assert_eq!(proto::reason::reason(&status), Some(Reason::NodeSilent), "{status:?}");
    assert_eq!(second.node(), model::NodeId(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_that_goes_away_ends_it_for_the_other() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    server.control().await.apply(web("replicas: 1")).await.unwrap();
    agent.wanted(1).await;
    agent.run_all().await;
    until_ready(&server, 1).await;
    let (command, mut relay) = tokio::join!(Command::start(&server, None), agent.relay());
    drop(command);
    relay.closed().await;

    let (command, relay) = tokio::join!(Command::start(&server, None), agent.relay());
    let mut command = command.unwrap();
    relay.say(says(Output::Stdout("half".into()))).await;
    assert_eq!(command.next().await.unwrap(), Some(Output::Stdout("half".into())));
    drop((agent, relay));
    let status = command.next().await.unwrap_err();
    assert_eq!(proto::reason::reason(&status), Some(Reason::NodeSilent), "{status:?}");
}
