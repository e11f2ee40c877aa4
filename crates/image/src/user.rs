//! Which numbers the user of a container stands for, by the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are those of Docker and the OCI image spec (`config.User`): `user`, `uid`, `user:group`, `uid:gid` and the
//! mixed forms. A name wins over a number that looks the same. Without a group the user's own primary group counts, and
//! every group that lists the user; with one, only that one. A number that no file knows is taken as it is.

use std::io::Read;

use crate::error::Error;
use crate::merged;
use crate::prepare::Prepared;
use crate::store::Store;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Sorted, without `gid`.
    pub additional_gids: Vec<u32>,
    /// `/` for a user that `/etc/passwd` does not have.
    pub home: String,
}

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error(
        "user {user:?}: the image has no user {name:?} in its /etc/passwd; use a name from there or a number"
    )]
    NoSuchUser { user: String, name: String },
    #[error(
        "user {user:?}: the image has no group {name:?} in its /etc/group; use a name from there or a number"
    )]
    NoSuchGroup { user: String, name: String },
    #[error("user {user:?}: {number} is larger than the largest user or group number, 2147483647")]
    NumberTooLarge { user: String, number: String },
    #[error("the image's {path} is larger than 1 MiB; no honest image has such a file")]
    FileTooLarge { path: &'static str },
    #[error("cannot read the image's {path}")]
    Unreadable { path: &'static str, source: std::io::Error },
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Store {
    /// Resolves a user as written in a manifest or an image; empty means root.
    pub fn user(&self, prepared: &Prepared, user: &str) -> Result<User, Error> {
        let passwd = read(prepared, "/etc/passwd")?;
        let group = read(prepared, "/etc/group")?;
        Ok(resolve(user, &passwd, &group)?)
    }
}

fn read(prepared: &Prepared, path: &'static str) -> Result<String, UserError> {
    const MAX_BYTES: u64 = 1 << 20;
    let unreadable = |source| UserError::Unreadable { path, source };
    let opened = merged::open_file(&prepared.layers, path).map_err(|errno| unreadable(errno.into()))?;
    let Some(file) = opened else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(UserError::FileTooLarge { path });
    }
    // Real names may be in any encoding; the fields that matter here are not.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve(user: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    // Every image has a root, also one without an /etc/passwd.
    let number = if name == "root" { Some(0) } else { parse_number(user, name)? };
    let by_name = passwd_lines(passwd).find(|line| line.name == name);
    let line = by_name.or_else(|| passwd_lines(passwd).find(|line| Some(line.uid) == number));
    let Some(uid) = line.as_ref().map(|line| line.uid).or(number) else {
        return Err(UserError::NoSuchUser { user: user.to_owned(), name: name.to_owned() });
    };
    let home = line.as_ref().map(|line| line.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    if let Some(group_name) = group_name {
        let gid = resolve_group(user, group_name, group)?;
        return Ok(User { uid, gid, additional_gids: Vec::new(), home });
    }
    let gid = line.as_ref().map_or(0, |line| line.gid);
    let mut additional_gids: Vec<u32> = match &line {
        Some(line) => {
            let lists =
                |group: &GroupLine<'_>| group.members.split(',').any(|member| member.trim() == line.name);
            group_lines(group).filter(lists).map(|group| group.gid).filter(|other| *other != gid).collect()
        }
        None => Vec::new(),
    };
    additional_gids.sort_unstable();
    additional_gids.dedup();
    Ok(User { uid, gid, additional_gids, home })
}

fn resolve_group(user: &str, name: &str, group: &str) -> Result<u32, UserError> {
    if let Some(line) = group_lines(group).find(|line| line.name == name) {
        return Ok(line.gid);
    }
    let missing = || UserError::NoSuchGroup { user: user.to_owned(), name: name.to_owned() };
    parse_number(user, name)?.ok_or_else(missing)
}

/// `None` if it is not a number at all.
fn parse_number(user: &str, text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if i32::try_from(number).is_ok() => Ok(Some(number)),
        _ => Err(UserError::NumberTooLarge { user: user.to_owned(), number: text.to_owned() }),
    }
}

fn passwd_lines(passwd: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(PasswdLine { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn group_lines(group: &str) -> impl Iterator<Item = GroupLine<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:1000:100:Web,,,:/srv/web:/bin/sh\n\
        1234:x:77:77::/home/number:/bin/sh\nhomeless:x:5:5\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nadm:x:4:web,root\nwww:x:33:other,web\nweb:x:1000:\n";

    fn shown(user: &str) -> String {
        match resolve(user, PASSWD, GROUP) {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.additional_gids, user.home),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn users_in_every_notation() {
        for (user, expected) in [
            ("", "0:0 [4] /root"),
            ("root", "0:0 [4] /root"),
            ("web", "1000:100 [4, 33] /srv/web"),
            ("1000", "1000:100 [4, 33] /srv/web"),
            ("web:www", "1000:33 [] /srv/web"),
            ("web:7", "1000:7 [] /srv/web"),
            ("web:", "1000:100 [4, 33] /srv/web"),
            (":www", "0:33 [] /root"),
            ("4242", "4242:0 [] /"),
            ("4242:4343", "4242:4343 [] /"),
            ("1234", "77:77 [] /home/number"),
            ("homeless", "5:5 [] /"),
            (
                "nobody",
                "user \"nobody\": the image has no user \"nobody\" in its /etc/passwd; use a name from there or a number",
            ),
            (
                "web:nogroup",
                "user \"web:nogroup\": the image has no group \"nogroup\" in its /etc/group; use a name from there or a \
                 number",
            ),
            (
                "2147483648",
                "user \"2147483648\": 2147483648 is larger than the largest user or group number, 2147483647",
            ),
            (
                "-1",
                "user \"-1\": the image has no user \"-1\" in its /etc/passwd; use a name from there or a number",
            ),
        ] {
            assert_eq!(shown(user), expected, "{user:?}");
        }
    }

    #[test]
    fn without_any_files_numbers_and_root_still_work() {
        let root = resolve("", "", "").unwrap();
        assert_eq!(root, User { uid: 0, gid: 0, additional_gids: vec![], home: "/".into() });
        assert_eq!(resolve("5:6", "", "").unwrap().gid, 6);
        // Every image has a root, named or not.
        assert_eq!(resolve("root", "", "").unwrap().uid, 0);
    }
}
