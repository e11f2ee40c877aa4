//! Which cluster a command means, and the file that remembers clusters.
//!
//! The file holds secrets, so it is read only if nobody but its owner can read it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use trust::{certificate::Pin, token::access::AccessTokenText};
use zeroize::Zeroizing;

use crate::{
    args::{By, Global},
    exit::Failure,
};

const TOKEN: &str = "WHARF_TOKEN";

/// Where a command goes.
#[derive(Clone, Debug)]
pub enum Goal {
    Socket(PathBuf),
    Remote(Box<Remote>),
}

/// A cluster that is reached over TLS.
#[derive(Clone, Debug)]
pub struct Remote {
    /// What says so, for errors: `context prod`.
    pub named: String,
    /// At least one, in the order in which they are tried.
    pub addresses: Vec<String>,
    pub token: AccessTokenText,
    pub pin: Pin,
}

impl Goal {
    pub fn of(global: &Global) -> Result<Goal, Failure> {
        let socket = || Ok(Goal::Socket(global.socket.clone()));
        let said = &global.said;
        let context = |name: &String| Contexts::read()?.goal(name);
        let by =
            |who| (said.socket == Some(who), global.context.as_ref().filter(|_| said.context == Some(who)));
        match (by(By::CommandLine), by(By::Environment)) {
            ((true, Some(_)), _) => {
                Err(Failure::new("--socket and --context each name a cluster").help("leave one of them out"))
            }
            ((true, None), _) => socket(),
            ((false, Some(name)), _) => context(name),
            (_, (true, _)) => socket(),
            (_, (false, Some(name))) => context(name),
            (_, (false, None)) => match env::var(TOKEN) {
                Ok(text) => of_environment(&Zeroizing::new(text)),
                Err(_) => match Contexts::read()? {
                    Contexts { current: Some(name), contexts } => {
                        Contexts { current: None, contexts }.goal(&name)
                    }
                    Contexts { current: None, .. } => socket(),
                },
            },
        }
    }
}

fn of_environment(text: &str) -> Result<Goal, Failure> {
    let token = AccessTokenText::parse(text)
        .map_err(|error| Failure::new(format!("{TOKEN} is no token to work with")).caused_by(error))?;
    if token.addresses.is_empty() {
        let failure = Failure::new(format!("the token in {TOKEN} does not say where the servers are"));
        return Err(failure.help("`wharf token create` makes one that does"));
    }
    let (addresses, pin) = (token.addresses.clone(), token.token.pin);
    Ok(Goal::Remote(Box::new(Remote { named: TOKEN.to_owned(), addresses, token, pin })))
}

/// The file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Context {
    /// Where servers are, if not where the token says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Whom to believe, if not whom the token says: a pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Exactly one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("addresses", &self.addresses)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

/// Where the file is.
pub fn path() -> Result<PathBuf, Failure> {
    let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = folder("WHARF_CONFIG") {
        return Ok(path);
    }
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let config = config.ok_or_else(|| {
        Failure::new("there is no place for contexts: HOME is not set").help("set WHARF_CONFIG to a file")
    })?;
    Ok(config.join("wharf/config.yaml"))
}

impl Contexts {
    /// Empty where there is no file.
    pub fn read() -> Result<Contexts, Failure> {
        match path() {
            Ok(path) => Contexts::read_from(&path),
            // Whoever has no home has no contexts, and may mean a socket.
            Err(_) => Ok(Contexts::default()),
        }
    }

    fn read_from(path: &Path) -> Result<Contexts, Failure> {
        let failed = |error| Failure::new(format!("cannot read {}", path.display())).caused_by(error);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            opened => opened.map_err(failed)?,
        };
        check_private(path, &file)?;
        let text = Zeroizing::new(io::read_to_string(file).map_err(failed)?);
        // What a parser says of a line may quote it, and the line may be a secret.
        serde_yaml::from_str(&text).map_err(|error| {
            let at = error.location().map(|at| format!(" at line {}", at.line())).unwrap_or_default();
            Failure::new(format!("{} is not as `wharf context` writes it{at}", path.display()))
                .help("mend it, or move it away and add the contexts again")
        })
    }

    /// Durable when it returns.
    pub fn write(&self) -> Result<(), Failure> {
        let path = path()?;
        let failed =
            |error: io::Error| Failure::new(format!("cannot write {}", path.display())).caused_by(error);
        let text = serde_yaml::to_string(self).map(Zeroizing::new);
        let text = text.map_err(|error| failed(io::Error::other(error)))?;
        write_private(&path, &text).map_err(failed)
    }

    pub fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let failure = Failure::new(format!("there is no context {name}"));
            match crate::output::text::nearest(name, self.contexts.keys().map(String::as_str)) {
                Some(near) => failure.help(format!("did you mean {near}?")),
                None => failure.help("`wharf context ls` lists them, `wharf context add` makes one"),
            }
        })
    }

    fn goal(&self, name: &str) -> Result<Goal, Failure> {
        self.get(name)?.remote(name).map(|remote| Goal::Remote(Box::new(remote)))
    }
}

impl Context {
    pub fn remote(&self, name: &str) -> Result<Remote, Failure> {
        let named = format!("context {name}");
        let failed = || Failure::new(format!("{named} cannot be used"));
        let text = match (&self.token, &self.token_file) {
            (Some(text), None) => text.clone(),
            (None, Some(path)) => read_private(path)?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(failed().because("it has to have a token or a tokenFile, and not both"));
            }
        };
        let token = AccessTokenText::parse(&text).map_err(|error| failed().caused_by(error))?;
        let addresses =
            if self.addresses.is_empty() { token.addresses.clone() } else { self.addresses.clone() };
        if addresses.is_empty() {
            let help =
                format!("`wharf context add {name} --replace --address HOST:PORT` says where they are");
            return Err(failed().because("nothing says where the servers are").help(help));
        }
        let pin = match &self.ca {
            None => token.token.pin,
            Some(ca) => {
                ca.parse().map_err(|error: trust::certificate::PinError| failed().caused_by(error))?
            }
        };
        Ok(Remote { named, addresses, token, pin })
    }
}

/// Blanks at its ends are no part of a secret.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error| Failure::new(format!("cannot read {}", path.display())).caused_by(error);
    let file = File::open(path).map_err(failed)?;
    check_private(path, &file)?;
    let text = Zeroizing::new(io::read_to_string(file).map_err(failed)?);
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A pipe, as `/dev/fd/3` may be, is only its holder's.
fn check_private(path: &Path, file: &File) -> Result<(), Failure> {
    let found = file.metadata();
    let found =
        found.map_err(|error| Failure::new(format!("cannot read {}", path.display())).caused_by(error))?;
    if found.is_file() && found.mode() & 0o077 != 0 {
        let path = path.display();
        let failure = Failure::new(format!("others can read {path}, and it holds a secret"));
        return Err(
            failure.help(format!("chmod 600 {path}; if somebody may have read it, `wharf token revoke` it"))
        );
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Several commands may write at once.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    durable_file::replace_from(&PathBuf::from(draft), path, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_read_as_it_was_written_and_only_if_it_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wharf/config.yaml");
        assert!(Contexts::read_from(&path).expect("no file is fine").contexts.is_empty());
        let context = Context {
            addresses: vec!["10.0.0.1:7400".to_owned()],
            ca: None,
            token: Some(Zeroizing::new("wharf_access_secret".to_owned())),
            token_file: None,
        };
        let contexts =
            Contexts { current: Some("prod".to_owned()), contexts: [("prod".to_owned(), context)].into() };
        assert!(!format!("{contexts:?}").contains("secret"));
        write_private(&path, &serde_yaml::to_string(&contexts).expect("YAML")).expect("it is written");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let read = Contexts::read_from(&path).expect("it is read");
        assert_eq!(read.current.as_deref(), Some("prod"));
        assert_eq!(read.get("prod").expect("it is there").token, contexts.contexts["prod"].token);
        let missing = read.get("prot").expect_err("it is not there").render();
        assert!(missing.contains("did you mean prod?"), "{missing}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its mode");
        let refused = Contexts::read_from(&path).expect_err("others can read it").render();
        assert!(refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told_without_what_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.yaml");
        write_private(&path, "contexts:\n  prod: {tokn: wharf_access_secret}\n").expect("it is written");
        let refused = Contexts::read_from(&path).expect_err("it has an unknown field").render();
        assert!(refused.contains("at line") && !refused.contains("secret"), "{refused}");
    }
}
