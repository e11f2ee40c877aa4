//! Images on nodes: loaded, listed, removed where the nodes keep them.

use model::{Name, NodeId};
use proto::v1::{self, load_image_request::Part, open, relay_frame::Frame};
use tonic::{Status, Streaming};

use super::{Control, refuse::invalid};
use crate::relay::Relay;

impl Control {
    pub(super) async fn do_load_image(
        &self,
        mut input: Streaming<v1::LoadImageRequest>,
    ) -> Result<v1::LoadImageResponse, Status> {
        let Some(Part::Start(start)) = input.message().await?.and_then(|first| first.part) else {
            return Err(invalid("an image begins with start"));
        };
        let mut relays = Vec::new();
        for (node, name) in self.relays.nodes(start.node.as_deref())? {
            let wanted = open::LoadImage { name: start.name.clone() };
            let relay = self.relays.open(node, open::Request::LoadImage(wanted)).await?;
            relays.push((node, name, relay));
        }
        while let Some(message) = input.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(invalid("only the first message of an image is start"));
            };
            for (_, _, relay) in &mut relays {
                send_or_say_why(relay, Frame::LoadChunk(chunk.clone())).await?;
            }
        }
        for (_, _, relay) in &mut relays {
            send_or_say_why(relay, Frame::LoadEnd(v1::relay_frame::LoadEnd {})).await?;
        }
        let mut images = Vec::new();
        for (node, name, relay) in relays {
            images.extend(answer(relay, node, &name).await?);
        }
        Ok(v1::LoadImageResponse { images })
    }

    pub(super) async fn do_list_images(
        &self,
        request: v1::ListImagesRequest,
    ) -> Result<v1::ListImagesResponse, Status> {
        let mut images =
            self.ask(request.node.as_deref(), || open::Request::ListImages(open::ListImages {})).await?;
        images.sort_by(|a, b| (&a.reference, &a.node_name).cmp(&(&b.reference, &b.node_name)));
        Ok(v1::ListImagesResponse { images })
    }

    pub(super) async fn do_remove_image(
        &self,
        request: v1::RemoveImageRequest,
    ) -> Result<v1::RemoveImageResponse, Status> {
        let reference = request.reference;
        let wanted = || open::Request::RemoveImage(open::RemoveImage { reference: reference.clone() });
        let images = self.ask(request.node.as_deref(), wanted).await?;
        if images.is_empty() {
            let message = format!("image {reference:?} is on none of these nodes; see `wharf image ls`");
            return Err(super::refuse::not_found(message));
        }
        Ok(v1::RemoveImageResponse { images })
    }

    /// Puts one question to all the nodes meant, at once.
    async fn ask(
        &self,
        node: Option<&str>,
        request: impl Fn() -> open::Request,
    ) -> Result<Vec<v1::Image>, Status> {
        let mut asked = Vec::new();
        for (id, name) in self.relays.nodes(node)? {
            let relays = self.relays.clone();
            let request = request();
            asked.push(tokio::spawn(async move { answer(relays.open(id, request).await?, id, &name).await }));
        }
        let mut images = Vec::new();
        for answers in asked {
            images.extend(answers.await.map_err(|error| Status::internal(error.to_string()))??);
        }
        Ok(images)
    }
}

/// An agent that refuses an archive half-way has said why before it closed the stream.
async fn send_or_say_why(relay: &mut Relay, frame: Frame) -> Result<(), Status> {
    match relay.send(frame).await {
        Ok(()) => Ok(()),
        Err(closed) => Err(relay.next().await.err().unwrap_or(closed)),
    }
}

async fn answer(mut relay: Relay, node: NodeId, name: &Name) -> Result<Vec<v1::Image>, Status> {
    let mut images = Vec::new();
    while let Some(frame) = relay.next().await? {
        if let Frame::Images(list) = frame {
            let of_node = |image| v1::Image { node: node.0, node_name: name.to_string(), ..image };
            images.extend(list.images.into_iter().map(of_node));
        }
    }
    Ok(images)
}
