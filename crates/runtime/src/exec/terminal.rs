//! A terminal of the container's own devpts, so that it has a name inside (`tty` works) and none outside.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::termios::Winsize;

use crate::failure::{At, Failure, Step};
use crate::plan::ProcessPlan;
use crate::start::sync;
use crate::sys;

/// Source: linux/magic.h.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Makes a terminal, hands its master out through the channel, and makes it the controlling one of this session.
pub(super) fn open(
    channel: &OwnedFd,
    rows: u16,
    columns: u16,
    process: &ProcessPlan,
) -> Result<[OwnedFd; 3], Failure> {
    let subject = "/dev/pts/ptmx";
    let master = open_master().at(Step::Terminal, subject)?;
    let slave = open_slave(&master).at(Step::Terminal, subject)?;
    let prepare = || -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size)?;
        // The user may open its terminal by name, as `tmux` and `gpg` do.
        rustix::fs::fchown(&slave, Some(Uid::from_raw(process.uid)), None::<Gid>)?;
        rustix::process::ioctl_tiocsctty(&slave)?;
        Ok(())
    };
    prepare().at(Step::Terminal, subject)?;
    sync::hand_over_terminal(channel, &master)?;
    let again = || slave.try_clone().at(Step::Terminal, subject);
    Ok([again()?, again()?, slave.try_clone().at(Step::Terminal, subject)?])
}

/// The image could have put anything there, so what was opened is looked at (CVE-2025-52565).
fn open_master() -> io::Result<OwnedFd> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let found = sys::open_in_root(root.as_fd(), "/dev/pts/ptmx", OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&found)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    let is_ptmx = is_device && stat.st_rdev == rustix::fs::makedev(5, 2);
    if !is_ptmx || rustix::fs::fstatfs(&found)?.f_type as u64 != DEVPTS_MAGIC {
        return Err(io::Error::other("is not the multiplexer of a devpts filesystem"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = sys::open_in_root(root.as_fd(), "/dev/pts/ptmx", flags)?;
    let opened = rustix::fs::fstat(&master)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(io::Error::other("was exchanged while it was opened"));
    }
    Ok(master)
}

/// The other side, by the kernel's own knowledge of it, not by a name.
fn open_slave(master: &OwnedFd) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(master)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes open flags as a number and returns a new descriptor.
    let slave =
        sys::check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }))?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(slave as i32) })
}
