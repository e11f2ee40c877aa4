//! `wharf cluster backup`, `restore`, `recover` and `lock`: what is done to the files of a cluster.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use model::{ClusterId, Name, Timestamp};
use proto::v1::{self, backup_part::Part, cluster_client::ClusterClient};
use server::rescue::{
    self, Itself,
    backup::{self, Writer},
};
use tonic::Streaming;
use trust::seal;

use super::join::membership;
use crate::{
    args,
    exit::{Code, Failure},
    key_files::Lock,
    membership::{Membership, trust_dir},
    output::say,
    patience::Patient,
};

pub async fn backup(client: &mut ClusterClient<Patient>, args: args::Backup) -> Result<Code, Failure> {
    let args::Backup { file, key } = args;
    let lock = key.lock(&file)?;
    let mut parts = client.backup(v1::BackupRequest {}).await?.into_inner();
    let draft = with_ending(&file, ".tmp");
    let written = write(&draft, &mut parts, &lock).await.and_then(|length| {
        let named = fs::rename(&draft, &file).and_then(|()| File::open(folder_of(&file))?.sync_all());
        named.map(|()| length).map_err(|error| cannot_write(&file, error))
    });
    if written.is_err() {
        // What is not whole is no backup.
        let _ = fs::remove_file(&draft);
    }
    say(format_args!("the state of the cluster is in {}, {} bytes of it", file.display(), written?));
    if let Lock::KeyFile { path, .. } = &lock {
        say(format_args!("only {} opens it: keep that, and keep it elsewhere", path.display()));
    }
    Ok(Code::Done)
}

async fn write(draft: &Path, parts: &mut Streaming<v1::BackupPart>, lock: &Lock) -> Result<u64, Failure> {
    let cut = || Failure::new("the server ended before the backup was whole");
    let failed = |error: backup::WriteError| cannot_write(draft, error);
    let Some(Part::Begin(begin)) = parts.message().await?.and_then(|part| part.part) else {
        return Err(cut());
    };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft);
    let file = io::BufWriter::new(file.map_err(|error| cannot_write(draft, error))?);
    let lock = match lock {
        Lock::KeyFile { key, .. } => seal::Lock::KeyFile(key),
        Lock::Passphrase(passphrase) => seal::Lock::Passphrase(passphrase, seal::Work::USUAL),
    };
    let cluster = ClusterId(begin.cluster);
    let mut writer = Writer::begin(file, cluster, begin.version, now(), lock).map_err(failed)?;
    let mut length = 0;
    loop {
        match parts.message().await?.and_then(|part| part.part) {
            Some(Part::Data(data)) => {
                length += data.len() as u64;
                writer.data(&data).map_err(failed)?;
            }
            Some(Part::End(end)) if end.length == length => break,
            _ => return Err(cut()),
        }
    }
    let file = writer.finish().map_err(failed)?;
    let file = file.into_inner().map_err(|error| cannot_write(draft, error.into_error()))?;
    file.sync_all().map_err(|error| cannot_write(draft, error))?;
    Ok(length)
}

pub fn restore(args: args::Restore) -> Result<Code, Failure> {
    let args::Restore { file, key, data, data_keys, reached } = args;
    let failed = |what: String| move |error| Failure::new(what).caused_by(error);
    let lock = key.open(&file)?;
    let unlock = match &lock {
        Lock::KeyFile { key, .. } => seal::Unlock::KeyFile(key),
        Lock::Passphrase(passphrase) => seal::Unlock::Passphrase(passphrase),
    };
    let opened = File::open(&file)
        .map_err(|error| Failure::new(format!("cannot read {}", file.display())).caused_by(error))?;
    let backup = backup::read(io::BufReader::new(opened), unlock)
        .map_err(|error| Failure::new(format!("{} cannot be restored", file.display())).caused_by(error))?;
    let membership = membership(reached, true, Default::default())?;
    let itself = Itself {
        name: Name::new(&membership.name)
            .map_err(|error| Failure::new("--name cannot be a server's name").caused_by(error))?,
        address: membership.advertise.clone(),
        trust_dir: trust_dir(&data),
    };
    let restored = rescue::restore(&data, data_keys.unlock()?, &backup, itself, now())
        .map_err(failed(format!("{} cannot be restored", file.display())))?;
    if restored.takes_others {
        membership.write(&data)?;
    }
    say(format_args!(
        "cluster {} is restored, with {} services, as of {}",
        restored.cluster,
        restored.services,
        crate::output::clock::utc(backup.taken_at)
    ));
    say_gone(&restored.gone);
    Ok(Code::Done)
}

pub fn recover(args: args::Recover) -> Result<Code, Failure> {
    let args::Recover { data, data_keys, advertise } = args;
    let recovered = rescue::recover(&data, data_keys.unlock()?, advertise.clone(), now());
    let recovered = recovered
        .map_err(|error| Failure::new(format!("{} cannot be recovered", data.display())).caused_by(error))?;
    if let (Some(advertise), Some(known)) = (advertise, Membership::read(&data)?) {
        Membership { advertise, ..known }.write(&data)?;
    }
    say(format_args!(
        "server {} of cluster {} decides alone from its next start on, with everything up to log entry {} of term {}",
        recovered.member, recovered.cluster, recovered.last_index, recovered.last_term
    ));
    if let Some(address) = &recovered.address {
        say(format_args!("others reach it at {address}"));
    }
    say_gone(&recovered.gone);
    Ok(Code::Done)
}

pub fn lock(args: args::LockKeys) -> Result<Code, Failure> {
    let args::LockKeys { data, data_keys, new_key_file, new_passphrase_file } = args;
    let new = args::DataKeys { key_file: new_key_file.clone(), passphrase_file: new_passphrase_file };
    let locked = rescue::lock(&data, data_keys.unlock()?, new.unlock()?);
    locked.map_err(|error| {
        Failure::new(format!("the data keys in {} cannot be locked anew", data.display())).caused_by(error)
    })?;
    say(match new_key_file {
        Some(file) => format!("the data keys open with {}: start the server with --key-file", file.display()),
        None => "the data keys open with the passphrase: start the server with --passphrase-file".to_owned(),
    });
    Ok(Code::Done)
}

fn say_gone(gone: &[String]) {
    if !gone.is_empty() {
        say(format_args!("no members any more, and never to be started again: {}", gone.join(", ")));
    }
}

fn now() -> Timestamp {
    Timestamp(UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn cannot_write(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(format!("cannot write {}", path.display())).caused_by(error)
}
