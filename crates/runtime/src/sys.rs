//! System calls that have no safe wrapper elsewhere, each in one small function.
//!
//! All of them are called from the launcher and its forks, which have a single thread, so what follows a fork may be
//! ordinary code.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags};
use rustix::process::Pid;

use crate::features::features;

/// The result of a libc call as an `io::Result`.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// fork(2). `None` in the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the callers have a single thread (the launcher checks it), so the child may run any code. The doctor alone may
    // have more; its child makes system calls and allocates, which libc allows after its own fork.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok(Pid::from_raw(pid as i32))
}

/// A process made by `clone3`.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// Arguments of clone3(2) up to and including the cgroup, its third published size.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Like fork, into new namespaces and, if given, into a cgroup of the cgroup2 tree. `None` in the child.
pub(crate) fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Cloned>> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args is a valid clone_args of the given size. Without a stack the call behaves as fork: the child is a copy of
    // this thread, which is all of the launcher's forks; a `Bystander` of the doctor's, which may have more, only waits.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    Ok(Pid::from_raw(pid as i32).map(|pid| {
        // SAFETY: the kernel put a new descriptor there, which nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Cloned { pid, pidfd }
    }))
}

/// What mount_setattr(2) shall change.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns: u64,
}

/// Changes a mount, or with `recursive` everything mounted below it too.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and attr is a valid mount_attr of the given size.
    check(unsafe {
        let (attr, size) = (&raw const attr, size_of::<MountAttr>());
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, attr, size)
    })?;
    Ok(())
}

/// Marks every descriptor from 3 on close-on-exec, whatever opened it.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    if features().close_range {
        return close_range_on_exec(3);
    }
    // What was inherited was marked when the launcher began, and we open nothing without the mark, so this only guards
    // against a mistake of ours; there is no trusted /proc to look into any more.
    const SEVERAL: RawFd = 1024;
    (3..SEVERAL).for_each(close_on_exec);
    Ok(())
}

/// The same for what was inherited from whoever started us, in a process that still sees the host's /proc.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    if features().close_range {
        return close_range_on_exec(3);
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        number.filter(|number| *number > 2).into_iter().for_each(close_on_exec);
    }
    Ok(())
}

fn close_range_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors; no ownership changes.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Whether the kernel can mark descriptors by range: tried where there are none.
pub(crate) fn has_close_range() -> bool {
    close_range_on_exec(u32::MAX).is_ok()
}

fn close_on_exec(number: RawFd) {
    // SAFETY: only sets a flag, and fails without harm for a number that is no descriptor.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// execveat(2) of the file that `program` is. Returns only on failure.
pub(crate) fn execute(program: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both vectors are null-terminated arrays of C strings that outlive the call.
    unsafe {
        let (fd, path) = (program.as_raw_fd(), c"".as_ptr());
        libc::syscall(libc::SYS_execveat, fd, path, argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH);
    }
    io::Error::last_os_error()
}

/// A sealed, executable memory file.
pub(crate) fn sealed_program(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 every memfd was executable, and the flag that asks for it unknown.
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    write_all(fd.as_fd(), bytes)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o555))?;
    let seals = rustix::fs::SealFlags::SEAL
        | rustix::fs::SealFlags::SHRINK
        | rustix::fs::SealFlags::GROW
        | rustix::fs::SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => bytes = &bytes[wrote..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Opens `path` below `root` as if `root` were the root directory: no symlink, `..` or magic link leads out of it.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // The kernel answers EAGAIN when something was renamed on the way, and it could not be sure.
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Whether a descriptor is readable, waiting for it at most `timeout_ms`; a signal may end the waiting early.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout_ms: u64) -> io::Result<bool> {
    let timeout =
        Timespec { tv_sec: (timeout_ms / 1000) as i64, tv_nsec: (timeout_ms % 1000 * 1_000_000) as _ };
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        other => Ok(other? > 0),
    }
}

/// Ends this process without running destructors or exit handlers, which belong to the process it was forked from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Sets every signal to its default action, which forks and, through exec, applications inherit.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code. It fails for SIGKILL, SIGSTOP and the two of libc, which have no other action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// What is blocked stays so through exec, and no application expects that.
pub(crate) fn unblock_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// prctl(2) with numbers as arguments.
pub(crate) fn prctl(option: i32, argument: u64) -> io::Result<()> {
    // SAFETY: none of the options used in this crate takes a pointer here.
    check(libc::c_long::from(unsafe { libc::prctl(option, argument, 0u64, 0u64, 0u64) }))?;
    Ok(())
}

pub(crate) fn unix_ms() -> u64 {
    // A clock before 1970 gives zero, which is wrong but harmless: these times are only shown.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}
