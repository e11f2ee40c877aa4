//! `wharf cluster authority`: what signs the certificates of hosts, and another in its place.

use std::time::Duration;

use model::Timestamp;
use proto::v1;

use super::cluster::Client;
use crate::{
    args::Authority,
    exit::{Code, Failure},
    output::{clock::utc, print, say},
};

const LOOK: Duration = Duration::from_millis(200);

pub async fn run(client: &mut Client, verb: Authority) -> Result<Code, Failure> {
    match verb {
        Authority::Status => {
            print(&described(&look(client).await?))?;
            Ok(Code::Done)
        }
        Authority::Rotate { no_wait } => {
            let before = look(client).await?;
            client.rotate_authority(v1::RotateAuthorityRequest {}).await?;
            match no_wait {
                true => say(
                    "a new authority is being made known; `wharf cluster authority status` tells how far it is",
                ),
                false => follow(client, &before).await?,
            }
            Ok(Code::Done)
        }
        Authority::Abandon => {
            client.abandon_rotation(v1::AbandonRotationRequest {}).await?;
            say("the rotation is given up; the authority is the one of before");
            Ok(Code::Done)
        }
    }
}

/// Says each step once, and for whom it waits. Interrupted, the rotation goes on without anybody who looks.
async fn follow(client: &mut Client, before: &v1::GetAuthorityResponse) -> Result<(), Failure> {
    let mut said = String::new();
    loop {
        let seen = look(client).await?;
        let now = match &seen.rotation {
            None if seen.pin == before.pin => {
                return Err(Failure::new("the rotation was given up; the authority is the one of before"));
            }
            None => {
                say(format_args!(
                    "done: the authority is {}; tokens of before are good for nothing now",
                    seen.pin
                ));
                return Ok(());
            }
            Some(rotation) => step(rotation),
        };
        if now != said {
            say(&now);
            said = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn step(rotation: &v1::AuthorityRotation) -> String {
    let doing = match rotation.new_one_signs {
        false => "hosts are told of the new authority",
        true => "the new authority signs; hosts get new certificates",
    };
    match rotation.waits_for.join(", ") {
        nobody if nobody.is_empty() => doing.to_owned(),
        hosts => format!("{doing}; still to follow: {hosts}"),
    }
}

async fn look(client: &mut Client) -> Result<v1::GetAuthorityResponse, Failure> {
    Ok(client.get_authority(v1::GetAuthorityRequest {}).await?.into_inner())
}

fn described(seen: &v1::GetAuthorityResponse) -> String {
    let until = utc(Timestamp(seen.expires_at_unix_ms));
    let mut text = format!("authority  {}\nholds      until {until}\n", seen.pin);
    match &seen.rotation {
        None => text += "rotation   none\n",
        Some(rotation) => {
            let other = if rotation.new_one_signs { "old one" } else { "next one" };
            text += &format!("{other:<9}  {}\nrotation   {}\n", rotation.other_pin, step(rotation));
        }
    }
    text
}
