//! `wharf image`: load, ls, rm.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use proto::v1::{self, load_image_request::Part};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    args::{Image, Output},
    connect::Client,
    exit::{Code, Failure},
    output::{
        clock::{self, Clock},
        json, print, remark, say,
        tables::{self, Width},
        text::{Format, lines},
    },
};

const CHUNK: usize = 256 << 10;

pub async fn run(client: &mut Client, image: Image) -> Result<Code, Failure> {
    match image {
        Image::Load { path, name } => load(client, path, name).await,
        Image::Ls { output } => list(client, output).await,
        Image::Rm { references } => {
            for reference in references {
                let request = v1::RemoveImageRequest { reference, node: None };
                for image in client.remove_image(request).await?.into_inner().images {
                    say(format_args!("removed {} from node {}", image.reference, image.node_name));
                }
            }
            Ok(Code::Done)
        }
    }
}

async fn load(client: &mut Client, path: PathBuf, name: Option<String>) -> Result<Code, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::new(format!("cannot read {}", path.display())).caused_by(error);
    let (send, receive) = mpsc::channel(8);
    let start = v1::load_image_request::Start { name, node: None };
    let first = v1::LoadImageRequest { part: Some(Part::Start(start)) };
    // The channel has room: nothing was sent yet.
    let _ = send.try_send(first);
    let source = path.clone();
    let reader = tokio::task::spawn_blocking(move || send_archive(&source, &send));
    let answer = client.load_image(ReceiverStream::new(receive)).await;
    // What could not be read here explains more than what the server made of the broken stream.
    reader.await.map_err(|error| Failure::new("reading stopped").caused_by(error))?.map_err(unreadable)?;
    for image in answer?.into_inner().images {
        say(format_args!("loaded {} ({}) on node {}", image.reference, image.digest, image.node_name));
    }
    Ok(Code::Done)
}

fn send_archive(path: &Path, send: &mpsc::Sender<v1::LoadImageRequest>) -> std::io::Result<()> {
    if path == Path::new("-") {
        return send_reader(std::io::stdin().lock(), send);
    }
    if !path.is_dir() {
        return send_reader(std::fs::File::open(path)?, send);
    }
    // A layout folder travels as the archive that it would be as a file.
    let mut archive = tar::Builder::new(ChunkWriter { send, chunk: Vec::with_capacity(CHUNK) });
    archive.follow_symlinks(false);
    archive.append_dir_all(".", path)?;
    archive.into_inner()?.flush()
}

fn send_reader(mut from: impl Read, send: &mpsc::Sender<v1::LoadImageRequest>) -> std::io::Result<()> {
    let mut writer = ChunkWriter { send, chunk: Vec::with_capacity(CHUNK) };
    std::io::copy(&mut from, &mut writer)?;
    writer.flush()
}

/// Cuts what is written into messages.
struct ChunkWriter<'a> {
    send: &'a mpsc::Sender<v1::LoadImageRequest>,
    chunk: Vec<u8>,
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.chunk.is_empty() {
            let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
            let message = v1::LoadImageRequest { part: Some(Part::Chunk(chunk.into())) };
            // A server that refused the image has closed the stream; its reason comes with the answer.
            let _ = self.send.blocking_send(message);
        }
        Ok(())
    }
}

async fn list(client: &mut Client, output: Output) -> Result<Code, Failure> {
    let images = client.list_images(v1::ListImagesRequest { node: None }).await?.into_inner().images;
    let width = if output == Output::Wide { Width::Wide } else { Width::Normal };
    match Format::of(output) {
        Some(format) => format.print(&images.iter().map(json::image).collect())?,
        None if output == Output::Name => print(&lines(images.into_iter().map(|image| image.reference)))?,
        None if images.is_empty() => remark("there are no images; `wharf image load FILE` brings one\n"),
        None => print(&tables::images(&images, &Clock::at(clock::now()), width))?,
    }
    Ok(Code::Done)
}
