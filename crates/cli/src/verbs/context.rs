//! `wharf context`: the clusters that this user works with.

use std::{
    io::{IsTerminal as _, Read as _},
    path::Path,
};

use serde_json::json;
use trust::{bundle::Trust, certificate::Pin, token::access::AccessTokenText};
use zeroize::Zeroizing;

use crate::{
    args::{self, Output},
    contexts::{self, Context, Contexts},
    exit::{Code, Failure},
    output::{
        print, remark, say, table,
        text::{Format, lines},
    },
};

pub fn run(verb: args::Context) -> Result<Code, Failure> {
    match verb {
        args::Context::Add(add) => self::add(add)?,
        args::Context::Use { name } => {
            let mut known = Contexts::read()?;
            known.get(&name)?;
            known.current = Some(name.clone());
            known.write()?;
            say(format_args!("context {name} is in use"));
        }
        args::Context::Ls { output } => print(&list(&Contexts::read()?, output)?)?,
        args::Context::Show { name } => show(name)?,
        args::Context::Rm { name } => {
            let mut known = Contexts::read()?;
            known.get(&name)?;
            known.contexts.remove(&name);
            let was_in_use = known.current.as_ref() == Some(&name);
            known.current = known.current.filter(|_| !was_in_use);
            known.write()?;
            let then = if was_in_use { "; none is in use now" } else { "" };
            say(format_args!("context {name} is forgotten{then}"));
        }
    }
    Ok(Code::Done)
}

fn add(add: args::AddContext) -> Result<(), Failure> {
    let name = add.name.to_string();
    let mut known = Contexts::read()?;
    if known.contexts.contains_key(&name) && !add.replace {
        let failure = Failure::new(format!("there is a context {name} already"));
        return Err(failure.help("--replace makes it anew, or choose another name"));
    }
    if let Some(wrong) = add.addresses.iter().find(|address| !dial::is_address(address)) {
        let failure = Failure::new(format!("--address {wrong:?} is no address"));
        return Err(failure.help("say a host and a port, such as 10.0.0.1:7400"));
    }
    let (token, token_file) = match add.token_file.as_os_str() == "-" {
        true => (Some(read_token()?), None),
        false => {
            let path = std::path::absolute(&add.token_file);
            let path = path.map_err(|error| Failure::new("--token-file cannot be found").caused_by(error))?;
            (None, Some(path))
        }
    };
    let ca = add.ca.as_deref().map(read_pin).transpose()?.map(|pin| pin.to_string());
    let context = Context { addresses: add.addresses, ca, token, token_file };
    // What cannot be used is not remembered.
    let remote = context.remote(&name)?;
    known.contexts.insert(name.clone(), context);
    let is_in_use = *known.current.get_or_insert_with(|| name.clone()) == name;
    known.write()?;
    let how = match is_in_use {
        true => "it is in use".to_owned(),
        false => format!("`wharf context use {name}` takes it into use"),
    };
    let (cluster, addresses) = (remote.token.token.cluster, remote.addresses.join(", "));
    say(format_args!("context {name} is cluster {cluster} at {addresses}; {how}"));
    Ok(())
}

fn read_token() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        remark("paste the token that `wharf token create` printed, then press Enter and Ctrl-D\n");
    }
    let mut text = Zeroizing::new(String::with_capacity(16 << 10));
    let read = stdin.lock().take(16 << 10).read_to_string(&mut text);
    read.map_err(|error| Failure::new("standard input cannot be read").caused_by(error))?;
    let token = AccessTokenText::parse(&text)
        .map_err(|error| Failure::new("standard input has no token to work with").caused_by(error))?;
    Ok(token.reveal())
}

/// A pin, or the file of a certificate that has it.
fn read_pin(text: &str) -> Result<Pin, Failure> {
    if let Ok(pin) = text.parse() {
        return Ok(pin);
    }
    let path = Path::new(text);
    let failed = || Failure::new(format!("--ca {text} says not whom to believe"));
    let pem = std::fs::read_to_string(path)
        .map_err(|error| failed().because("it is no pin, and no file that can be read").caused_by(error))?;
    let trust = Trust::from_pem(&pem).map_err(|error| failed().caused_by(error))?;
    Ok(trust.signer().pin())
}

fn list(known: &Contexts, output: Output) -> Result<String, Failure> {
    let is_in_use = |name: &String| known.current.as_ref() == Some(name);
    if let Some(format) = Format::of(output) {
        let one = |(name, context): (&String, &Context)| {
            let remote = context.remote(name).ok();
            json!({
                "name": name,
                "inUse": is_in_use(name),
                "cluster": remote.as_ref().map(|remote| remote.token.token.cluster.to_string()),
                "addresses": remote.as_ref().map(|remote| remote.addresses.clone()).unwrap_or_default(),
            })
        };
        return format.render(&known.contexts.iter().map(one).collect());
    }
    if output == Output::Name {
        return Ok(lines(known.contexts.keys().cloned()));
    }
    let row = |(name, context): (&String, &Context)| {
        let (cluster, addresses) = match context.remote(name) {
            Ok(remote) => (remote.token.token.cluster.to_string(), remote.addresses.join(",")),
            Err(_) => ("unusable".to_owned(), String::new()),
        };
        vec![name.clone(), if is_in_use(name) { "*" } else { "" }.to_owned(), cluster, addresses]
    };
    Ok(table::render(&["NAME", "IN USE", "CLUSTER", "ADDRESSES"], known.contexts.iter().map(row).collect()))
}

fn show(name: Option<String>) -> Result<(), Failure> {
    let known = Contexts::read()?;
    let name = name.or_else(|| known.current.clone()).ok_or_else(|| {
        Failure::new("no context is in use")
            .help("`wharf context ls` lists them, `wharf context add` makes one")
    })?;
    let context = known.get(&name)?;
    let remote = context.remote(&name)?;
    let (file, token) = (contexts::path()?, &remote.token.token);
    let kept = context.token_file.as_deref().unwrap_or(&file);
    print(&format!(
        "context    {name}\ncluster    {}\naddresses  {}\nbelieves   {}\ntoken      {}, in {}\n",
        token.cluster,
        remote.addresses.join(", "),
        remote.pin,
        token.id,
        kept.display(),
    ))
}
