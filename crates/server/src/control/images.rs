//! Images on nodes: loaded, listed, removed where the nodes keep them.
//!
//! What was loaded or removed is answered once this server knows it: an apply that follows means the new image.

use std::time::Duration;

use model::{Digest, Name, NodeId};
use proto::v1::{self, load_image_request::Part, open, relay_frame::Frame};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tonic::{Status, Streaming};

use super::{
    Control,
    refuse::{invalid, not_found, stopped},
};
use crate::{access::Passed, relay::Relay};

/// How many parts of an archive wait for a slow node before the others wait for it.
const PARTS_AHEAD: usize = 4;
/// How long a node may take to report what it has just answered. More only means that an apply may be too early.
const REPORTED: Duration = Duration::from_secs(5);

type Answer = Result<Vec<v1::Image>, Status>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    There,
    Gone,
}

impl Control {
    pub(super) async fn do_load_image(
        &self,
        first: Passed<v1::LoadImageRequest>,
        mut input: Streaming<v1::LoadImageRequest>,
    ) -> Result<v1::LoadImageResponse, Status> {
        let Some(Part::Start(start)) = first.into_inner().part else {
            return Err(invalid("an image begins with start"));
        };
        let (mut uploads, mut nodes) = (JoinSet::new(), Vec::new());
        for (node, name) in self.relays.nodes(start.node.as_deref())? {
            let wanted = open::LoadImage { name: start.name.clone() };
            let relay = self.relays.open(node, open::Request::LoadImage(wanted)).await?;
            let (parts, waiting) = mpsc::channel(PARTS_AHEAD);
            uploads.spawn(upload(relay, waiting, node, name));
            nodes.push(parts);
        }
        let mut images = Vec::new();
        loop {
            // The first node that fails ends it for all; it may be long before the archive's end.
            let message = tokio::select! {
                message = input.message() => message?,
                Some(ended) = uploads.join_next() => {
                    images.extend(ended.map_err(panicked)??);
                    continue;
                }
            };
            let (frame, is_last) = match message {
                Some(v1::LoadImageRequest { part: Some(Part::Chunk(chunk)) }) => {
                    (Frame::LoadChunk(chunk), false)
                }
                Some(_) => return Err(invalid("only the first message of an image is start")),
                None => (Frame::LoadEnd(v1::relay_frame::LoadEnd {}), true),
            };
            for node in &nodes {
                // A node that has answered already takes no more, and needs no more.
                let _ = node.send(frame.clone()).await;
            }
            if is_last {
                break;
            }
        }
        while let Some(ended) = uploads.join_next().await {
            images.extend(ended.map_err(panicked)??);
        }
        images.sort_by(|a, b| (&a.reference, &a.node_name).cmp(&(&b.reference, &b.node_name)));
        self.wait_until_known(&images, Now::There).await?;
        Ok(v1::LoadImageResponse { images })
    }

    pub(super) async fn do_list_images(
        &self,
        request: Passed<v1::ListImagesRequest>,
    ) -> Result<v1::ListImagesResponse, Status> {
        let images =
            self.ask(request.node.as_deref(), || open::Request::ListImages(open::ListImages {})).await?;
        Ok(v1::ListImagesResponse { images })
    }

    pub(super) async fn do_remove_image(
        &self,
        asked: Passed<v1::RemoveImageRequest>,
    ) -> Result<v1::RemoveImageResponse, Status> {
        let request = asked.into_inner();
        let reference = request.reference;
        let wanted = || open::Request::RemoveImage(open::RemoveImage { reference: reference.clone() });
        let images = self.ask(request.node.as_deref(), wanted).await?;
        if images.is_empty() {
            let message = format!("image {reference:?} is on none of these nodes; see `wharf image ls`");
            return Err(not_found(message));
        }
        self.wait_until_known(&images, Now::Gone).await?;
        Ok(v1::RemoveImageResponse { images })
    }

    /// Puts one question to all the nodes meant, at once; answers in the order of reference and node.
    async fn ask(&self, node: Option<&str>, request: impl Fn() -> open::Request) -> Answer {
        let mut asked = JoinSet::new();
        for (id, name) in self.relays.nodes(node)? {
            let relays = self.relays.clone();
            let request = request();
            asked.spawn(async move {
                let mut relay = relays.open(id, request).await?;
                let mut images = Vec::new();
                while let Some(frame) = relay.next().await.map_err(|status| on_node(&name, status))? {
                    images.extend(images_in(frame, id, &name));
                }
                Ok::<_, Status>(images)
            });
        }
        let mut images = Vec::new();
        while let Some(answered) = asked.join_next().await {
            images.extend(answered.map_err(panicked)??);
        }
        images.sort_by(|a, b| (&a.reference, &a.node_name).cmp(&(&b.reference, &b.node_name)));
        Ok(images)
    }

    /// Agents report their images in their sessions, beside the stream that the answer came in.
    async fn wait_until_known(&self, images: &[v1::Image], now: Now) -> Result<(), Status> {
        let mut views = self.brain.views();
        let known = views.wait_for(|view| {
            images.iter().all(|image| {
                let report = view.observed.node(NodeId(image.node));
                let digest = image.digest.parse::<Digest>().ok();
                // The node says the name in both places as its store does: in normal form.
                let known = report.and_then(|report| report.images.get(&image.reference));
                let is_there = known.is_some() && known == digest.as_ref();
                is_there == (now == Now::There)
            })
        });
        match timeout(REPORTED, known).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped(crate::brain::Stopped)),
            Err(_) => {
                tracing::warn!("a node did not report what became of its images");
                Ok(())
            }
        }
    }
}

/// Sends the archive, and hears meanwhile: an agent that refuses it half-way says why and takes no more, and one that
/// has seen the end of an archive need not wait for what comes after.
async fn upload(mut relay: Relay, mut parts: mpsc::Receiver<Frame>, node: NodeId, name: Name) -> Answer {
    let mut images = Vec::new();
    let mut is_whole = false;
    loop {
        tokio::select! {
            part = parts.recv(), if !is_whole => {
                let part = part.ok_or_else(|| Status::cancelled("the archive was cut short"))?;
                is_whole = matches!(part, Frame::LoadEnd(_));
                relay.send(part).await.map_err(|status| on_node(&name, status))?;
            }
            frame = relay.next() => match frame.map_err(|status| on_node(&name, status))? {
                Some(frame) => images.extend(images_in(frame, node, &name)),
                None => return Ok(images),
            },
        }
    }
}

fn panicked(panic: JoinError) -> Status {
    Status::internal(panic.to_string())
}

fn images_in(frame: Frame, node: NodeId, name: &Name) -> Vec<v1::Image> {
    let Frame::Images(list) = frame else { return Vec::new() };
    let of_node = |image| v1::Image { node: node.0, node_name: name.to_string(), ..image };
    list.images.into_iter().map(of_node).collect()
}

/// Names the node of which an agent told something.
fn on_node(name: &Name, status: Status) -> Status {
    match proto::reason::reason(&status) {
        // From this server, and of the node already.
        Some(_) => status,
        None => Status::new(status.code(), format!("node {name}: {}", status.message())),
    }
}
