//! Image streams: load an archive, list, remove.

use std::io::{self, Read};

use image::{Image, Store};
use model::Digest;
use proto::v1::{self, relay_frame::Frame};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{Broken, Peer};
use crate::{
    agent::{Happened, Sender},
    host::{Host, chain},
};

/// Chunks that may wait for the store before the stream waits for it.
const CHUNKS: usize = 16;

/// What the node tells of its images: names and what they stand for.
pub(crate) fn named(store: &Store) -> Result<Vec<(String, Digest)>, image::Error> {
    // The store's digests have been checked; one that is not sha256 cannot be in an assignment, so nobody misses it.
    let digest = |image: Image| Some((image.name, image.digest.to_string().parse().ok()?));
    Ok(store.list()?.into_iter().filter_map(digest).collect())
}

pub(super) async fn list(host: &Host, peer: &mut Peer) -> Result<(), Broken> {
    let images = host.images.list().map_err(|error| failed(&error))?;
    answer(host, peer, &images).await
}

pub(super) async fn remove(
    host: &Host,
    wanted: v1::open::RemoveImage,
    peer: &mut Peer,
    happened: &Sender,
) -> Result<(), Broken> {
    let store = host.images.clone();
    let removed = spawn_blocking(move || {
        let before = store.list()?;
        store.remove(&wanted.reference)?;
        let after = store.list()?;
        Ok::<_, image::Error>(before.into_iter().filter(|image| !after.contains(image)).collect::<Vec<_>>())
    });
    let removed = removed.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let _ = happened.send(Happened::ImagesChanged);
    answer(host, peer, &removed).await
}

/// The archive is written and verified as it comes, then unpacked, so that the first start need not do it.
pub(super) async fn load(
    host: &Host,
    wanted: v1::open::LoadImage,
    peer: &mut Peer,
    happened: &Sender,
) -> Result<(), Broken> {
    let (chunks, received) = mpsc::channel::<bytes::Bytes>(CHUNKS);
    let store = host.images.clone();
    let mut loading = spawn_blocking(move || {
        let images = store.load_archive(Chunks::new(received), wanted.name.as_deref());
        let images = images.map_err(|error| chain(&error))?;
        for image in &images {
            store.prepare(&image.digest).map_err(|error| chain(&error))?;
        }
        Ok(images)
    });
    let mut chunks = Some(chunks);
    let loaded: Result<Vec<Image>, String> = loop {
        tokio::select! {
            loaded = &mut loading => break loaded.map_err(|error| failed(&error))?,
            frame = peer.hear(), if chunks.is_some() => match (frame?, &chunks) {
                // A store that has given up says why when it is waited for.
                (Frame::LoadChunk(chunk), Some(open)) => if open.send(chunk).await.is_err() { chunks = None },
                (Frame::LoadEnd(_), _) => {
                    if let Some(open) = chunks.take() {
                        // An empty chunk is the end; a channel that is merely dropped is an archive cut short.
                        let _ = open.send(bytes::Bytes::new()).await;
                    }
                }
                (_, _) => {}
            },
        }
    };
    let images = loaded.map_err(Broken::Failed)?;
    let _ = happened.send(Happened::ImagesChanged);
    answer(host, peer, &images).await
}

async fn answer(host: &Host, peer: &mut Peer, images: &[Image]) -> Result<(), Broken> {
    let image = |image: &Image| v1::Image {
        reference: image.name.clone(),
        digest: image.digest.to_string(),
        // The server knows which node it asked, and writes it here.
        node: 0,
        node_name: host.config.name.to_string(),
        size_bytes: image.size_bytes,
        created_at_unix_ms: image.created.as_deref().and_then(unix_ms).unwrap_or_default(),
    };
    let images = images.iter().map(image).collect();
    Ok(peer.say(Frame::Images(v1::relay_frame::ImageList { images })).await?)
}

fn unix_ms(rfc3339: &str) -> Option<u64> {
    let at: jiff::Timestamp = rfc3339.parse().ok()?;
    at.as_millisecond().try_into().ok()
}

fn failed(error: &dyn std::error::Error) -> Broken {
    Broken::Failed(chain(error))
}

/// Chunks as a reader, for a thread that blocks.
struct Chunks {
    received: mpsc::Receiver<bytes::Bytes>,
    rest: bytes::Bytes,
    ended: bool,
}

impl Chunks {
    fn new(received: mpsc::Receiver<bytes::Bytes>) -> Chunks {
        Chunks { received, rest: bytes::Bytes::new(), ended: false }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            self.rest = self.received.blocking_recv().ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ended = self.rest.is_empty();
        }
        let length = buffer.len().min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&'static [u8]]) -> io::Result<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(8);
        for chunk in chunks {
            sender.blocking_send(bytes::Bytes::from_static(chunk)).unwrap();
        }
        drop(sender);
        let mut all = Vec::new();
        Chunks::new(receiver).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn an_archive_that_is_cut_short_is_not_taken_for_its_end() {
        assert_eq!(read(&[b"ab", b"c", b""]).unwrap(), b"abc");
        assert_eq!(read(&[b"ab", b"c"]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn times_of_images_are_rfc_3339() {
        assert_eq!(unix_ms("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(unix_ms("yesterday"), None);
    }
}
