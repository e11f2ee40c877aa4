//! Images on nodes, through the server.

use proto::v1::{
    self, Reason,
    load_image_request::{Part, Start},
    relay_frame::{Frame, ImageList},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    agent::{Agent, Relay, digest},
    fixture::{Server, apply_of, declaration, in_time},
};

type Loaded = Result<v1::LoadImageResponse, Status>;

/// A user who sends an archive.
async fn load(server: &Server) -> (mpsc::Sender<v1::LoadImageRequest>, JoinHandle<Loaded>) {
    let mut control = server.control().await;
    let (parts, stream) = mpsc::channel(1);
    part(&parts, Part::Start(Start { name: None, node: None })).await;
    let answer = tokio::spawn(async move {
        control.load_image(ReceiverStream::new(stream)).await.map(tonic::Response::into_inner)
    });
    (parts, answer)
}

async fn part(parts: &mpsc::Sender<v1::LoadImageRequest>, part: Part) {
    parts.send(v1::LoadImageRequest { part: Some(part) }).await.unwrap();
}

async fn answered(answer: JoinHandle<Loaded>) -> Loaded {
    in_time("the image is loaded", answer).await.unwrap()
}

fn images(number: u64) -> Frame {
    let image = v1::Image {
        reference: "new:latest".to_owned(),
        digest: digest(number).to_string(),
        ..v1::Image::default()
    };
    Frame::Images(ImageList { images: vec![image] })
}

async fn heard_chunks(relay: &mut Relay) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        match relay.hear().await {
            Some(Frame::LoadChunk(chunk)) => bytes.extend_from_slice(&chunk),
            Some(Frame::LoadEnd(_)) => return bytes,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_loaded_once_an_apply_would_mean_it() {
    let server = Server::start().await;
    let (mut first, mut second) = (Agent::start(&server, 1).await, Agent::start(&server, 2).await);
    let (parts, mut answer) = load(&server).await;
    let (mut to_first, mut to_second) = tokio::join!(first.relay(), second.relay());
    for chunk in ["arch", "ive"] {
        part(&parts, Part::Chunk(chunk.into())).await;
    }
    drop(parts);
    assert_eq!(heard_chunks(&mut to_first).await, b"archive");
    assert_eq!(heard_chunks(&mut to_second).await, b"archive");
    for relay in [to_first, to_second] {
        relay.say(images(7)).await;
        relay.end().await;
    }
    // The answer waits for what the agents report beside the stream.
    first.has_image("new:latest", digest(7)).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut answer).await;
    assert!(early.is_err(), "one node has not reported it: {early:?}");
    second.has_image("new:latest", digest(7)).await;
    let loaded = answered(answer).await.unwrap();
    let names: Vec<&str> = loaded.images.iter().map(|image| image.node_name.as_str()).collect();
    assert_eq!(names, ["n1", "n2"]);
    let request = apply_of([declaration("web", "image: new")]);
    let applied = server.control().await.apply(request).await.unwrap().into_inner().results.remove(0);
    let image = applied.resolved.unwrap().template.unwrap().main.unwrap().image.unwrap();
    assert_eq!(image.digest, Some(digest(7).to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_half_way_says_why() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let (parts, answer) = load(&server).await;
    let relay = agent.relay().await;
    part(&parts, Part::Chunk("garbage".into())).await;
    // The user may be slow to send the next, or never do.
    relay.fail("the archive is no image").await;
    let status = answered(answer).await.unwrap_err();
    assert_eq!(status.message(), "node n1: the archive is no image");
}

/// It may see the end of an archive before the server has sent all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_answer_before_the_end() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let (parts, answer) = load(&server).await;
    let relay = agent.relay().await;
    part(&parts, Part::Chunk("archive".into())).await;
    relay.say(images(7)).await;
    relay.end().await;
    agent.has_image("new:latest", digest(7)).await;
    for _ in 0..50 {
        part(&parts, Part::Chunk("padding".into())).await;
    }
    drop(parts);
    assert_eq!(answered(answer).await.unwrap().images.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_cut_short_is_not_ended() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let (parts, answer) = load(&server).await;
    let mut relay = agent.relay().await;
    part(&parts, Part::Chunk("arch".into())).await;
    assert_eq!(relay.hear().await, Some(Frame::LoadChunk("arch".into())));
    // As a user does who is killed: the stream is reset, not closed.
    answer.abort();
    assert!(answer.await.unwrap_err().is_cancelled());
    while let Some(frame) = relay.hear().await {
        assert!(!matches!(frame, Frame::LoadEnd(_)), "half an archive is none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_vanishes_is_named() {
    let server = Server::start().await;
    let mut agent = Agent::start(&server, 1).await;
    let (parts, answer) = load(&server).await;
    let relay = agent.relay().await;
    part(&parts, Part::Chunk("arch".into())).await;
    drop((agent, relay));
    let status = answered(answer).await.unwrap_err();
    assert_eq!(proto::reason::reason(&status), Some(Reason::NodeSilent), "{status:?}");
    assert!(status.message().contains("node n1 went away"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_and_removed_where_they_are() {
    let server = Server::start().await;
    let mut control = server.control().await;
    let list = v1::ListImagesRequest::default();
    let status = control.list_images(list.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), proto::reason::reason(&status)),
        (Code::Unavailable, Some(Reason::NodeSilent))
    );

    let mut agent = Agent::start(&server, 1).await;
    let status =
        control.list_images(v1::ListImagesRequest { node: Some("n9".to_owned()) }).await.unwrap_err();
    assert!(status.message().contains("no node named n9"), "{status:?}");
    let answer = async {
        let relay = agent.relay().await;
        relay.say(images(1)).await;
        relay.end().await;
    };
    let (listed, ()) = tokio::join!(control.list_images(list), answer);
    assert_eq!(listed.unwrap().into_inner().images[0].node_name, "n1");

    agent.has_image("new:latest", digest(1)).await;
    let remove = v1::RemoveImageRequest { reference: "new".to_owned(), node: None };
    let answer = async {
        let relay = agent.relay().await;
        relay.say(images(1)).await;
        relay.end().await;
        agent.has_no_images().await;
    };
    let (removed, ()) = tokio::join!(control.remove_image(remove.clone()), answer);
    assert_eq!(removed.unwrap().into_inner().images.len(), 1);
    let nothing = async {
        let relay = agent.relay().await;
        relay.say(Frame::Images(ImageList { images: Vec::new() })).await;
        relay.end().await;
    };
    let (removed, ()) = tokio::join!(control.remove_image(remove), nothing);
    assert_eq!(removed.unwrap_err().code(), Code::NotFound);
}
