//! What backing up, restoring and recovering are told.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Reached;

/// What opens the data keys of a server, as its log needs them.
#[derive(Clone, Debug, ClapArgs)]
pub struct DataKeys {
    /// The key file that opens the server's data keys, made at the first start; in the data folder
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub key_file: Option<PathBuf>,
    /// A file whose first line is the passphrase that opens the server's data keys; /dev/fd/3 is descriptor 3
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("new").required(true))]
#[command(after_help = "Example:
  systemctl stop wharf-server
  wharf cluster lock --new-passphrase-file /dev/stdin
  wharf server --passphrase-file /run/credentials/wharf-server.service/passphrase

What is encrypted stays as it is. A key file beside the log is removed once it is not needed.")]
pub struct LockKeys {
    /// The data folder of the server; it must not run
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    pub data: PathBuf,
    #[command(flatten)]
    pub data_keys: DataKeys,
    /// The key file that opens them from now on, made where there is none
    #[arg(long, value_name = "FILE", group = "new")]
    pub new_key_file: Option<PathBuf>,
    /// A file whose first line is the passphrase that opens them from now on, of 12 characters at least
    #[arg(long, value_name = "FILE", group = "new")]
    pub new_passphrase_file: Option<PathBuf>,
}

/// What opens a backup.
#[derive(Clone, Debug, ClapArgs)]
pub struct BackupKey {
    /// The key file of the backup; FILE.key
    #[arg(long, value_name = "FILE", conflicts_with = "backup_passphrase_file")]
    pub backup_key: Option<PathBuf>,
    /// A file whose first line is the passphrase of the backup
    #[arg(long, value_name = "FILE")]
    pub backup_passphrase_file: Option<PathBuf>,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf cluster backup /backup/monday --backup-key /root/backup.key   the same key file for every backup
  wharf cluster backup monday                                         makes monday and monday.key

Without its key nobody can restore a backup, and with it everybody can: keep the two apart.")]
pub struct Backup {
    /// Where to; what is there is replaced once the backup is whole
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub key: BackupKey,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Example:
  wharf cluster restore /backup/monday --backup-key /root/backup.key --advertise 10.0.0.1:7400
  wharf server                                        the cluster is back, with one server

The servers of before must never run again. Agents take up what they run, as soon as they reach the new server.")]
pub struct Restore {
    /// A backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub key: BackupKey,
    /// Where the new server keeps its log and its keys; nothing may be there yet
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    pub data: PathBuf,
    #[command(flatten)]
    pub data_keys: DataKeys,
    #[command(flatten)]
    pub reached: Reached,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Example:
  systemctl stop wharf-server                         on the server that is left
  wharf cluster recover
  systemctl start wharf-server                        it decides alone, and others can join

The other servers must never run again: they would be another cluster with the same name.")]
pub struct Recover {
    /// The data folder of the server that is left; it must not run
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    pub data: PathBuf,
    #[command(flatten)]
    pub data_keys: DataKeys,
    /// Where others reach it from now on, if that is another address than before
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
}
