//! From a process inside a container to its application: limits, user, rights, exec. Shared by start and exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::thread::{Gid, Uid};

use super::sync;
use crate::failure::{At, Failure, Step};
use crate::plan::{ProcessPlan, Rlimit};
use crate::sys;

/// What the sealed program does when it is executed.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Stays as PID 1, and tells here how the application ended.
    Init { report: OwnedFd },
    /// Turns into the application.
    Direct,
}

/// The last steps, in an order in which each still has the rights it needs. Returns only on failure.
pub(crate) fn become_application(
    plan: &ProcessPlan,
    seccomp: &[u8],
    stdio: [OwnedFd; 3],
    entry: Entry,
    program: &OwnedFd,
    channel: &OwnedFd,
) -> Result<Infallible, Failure> {
    plan.rlimits.iter().try_for_each(set_rlimit)?;
    enter_working_directory(&plan.cwd)?;
    if !plan.no_new_privileges {
        // Without it, a filter needs a right that the next steps give up; so it already covers those steps.
        install_seccomp(seccomp)?;
    }
    drop_privileges(plan)?;
    if plan.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at(Step::Capabilities, "no_new_privs")?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    // Changing the user cleared it. With the keeper gone nobody would read the output or record the end.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).at(Step::Namespaces, "parent death signal")?;
    let path = resolve(&plan.argv[0], &plan.env)?;
    let (argv, envp) = arguments(plan, &path, &entry, channel)?;
    move_stdio(stdio).at(Step::Exec, "stdio")?;
    sys::close_all_on_exec().at(Step::Exec, "close descriptors")?;
    keep_open(channel).at(Step::Exec, "setup channel")?;
    if let Entry::Init { report } = &entry {
        keep_open(report).at(Step::Exec, "report pipe")?;
    }
    sync::tell_ready(channel)?;
    if plan.no_new_privileges {
        install_seccomp(seccomp)?;
    }
    let error = sys::execute(program.as_fd(), &argv, &envp);
    // Ours is sound, so this is about what it is given: too long an environment, too little memory.
    Err(Failure::of(Step::Exec, &plan.argv[0], &error))
}

/// A program and its environment, as exec takes them.
type Vectors = (Vec<CString>, Vec<CString>);

/// The sealed program's arguments, which contain the application's; see `keeper/init.rs`.
fn arguments(plan: &ProcessPlan, path: &str, entry: &Entry, channel: &OwnedFd) -> Result<Vectors, Failure> {
    let channel = channel.as_raw_fd().to_string();
    let head = match entry {
        Entry::Init { report } => vec!["wharf-init".to_owned(), channel, report.as_raw_fd().to_string()],
        Entry::Direct => vec!["wharf-exec".to_owned(), channel],
    };
    let texts = head.into_iter().chain([path.to_owned()]).chain(plan.argv.iter().cloned());
    let convert = |texts: Vec<String>| -> Result<Vec<CString>, Failure> {
        let texts: Result<Vec<CString>, _> = texts.into_iter().map(CString::new).collect();
        texts.map_err(|_| Failure::new(Step::Exec, path, "an argument contains a null byte"))
    };
    Ok((convert(texts.collect())?, convert(plan.env.clone())?))
}

/// `stdio` may itself be among 0, 1 and 2, so everything moves out of the way first.
fn move_stdio(stdio: [OwnedFd; 3]) -> io::Result<()> {
    let [stdin, stdout, stderr] = stdio.map(|fd| rustix::io::fcntl_dupfd_cloexec(&fd, 3));
    rustix::stdio::dup2_stdin(stdin?)?;
    rustix::stdio::dup2_stdout(stdout?)?;
    rustix::stdio::dup2_stderr(stderr?)?;
    Ok(())
}

fn keep_open(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty())
}

fn set_rlimit(limit: &Rlimit) -> Result<(), Failure> {
    let value = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the limit is valid for the length of the call.
    match sys::check(libc::c_long::from(unsafe { libc::setrlimit(limit.resource, &raw const value) })) {
        // Some hosts do not let us raise it, and few programs notice.
        Err(_) if limit.resource == libc::RLIMIT_MEMLOCK => Ok(()),
        other => {
            other.map(drop).at(Step::Limits, format_args!("rlimit {} to {}", limit.resource, limit.hard))
        }
    }
}

/// Makes the working directory if the image lacks it, as people expect from Docker.
pub(crate) fn make_working_directory(root: BorrowedFd<'_>, cwd: &str) -> Result<(), Failure> {
    super::mounts::directory(root, cwd).map(drop).at(Step::WorkingDirectory, cwd)
}

/// Through no magic link (such as /proc/self/fd), and seen from the root by the kernel afterwards (CVE-2024-21626).
fn enter_working_directory(cwd: &str) -> Result<(), Failure> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(Step::WorkingDirectory, "/")?;
    let directory = sys::open_in_root(root.as_fd(), cwd, OFlags::PATH | OFlags::DIRECTORY)
        .at(Step::WorkingDirectory, cwd)?;
    rustix::process::fchdir(&directory).at(Step::WorkingDirectory, cwd)?;
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => {
            Err(Failure::new(Step::WorkingDirectory, cwd, "is outside the container"))
        }
        Err(error) => Err(error).at(Step::WorkingDirectory, cwd),
    }
}

/// Bounding set first (it needs a capability), then the user, then what is left of capabilities.
fn drop_privileges(plan: &ProcessPlan) -> Result<(), Failure> {
    for number in 0..64 {
        if plan.bounding & (1 << number) != 0 {
            continue;
        }
        match sys::prctl(libc::PR_CAPBSET_DROP, number) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break, // Beyond the last one the kernel knows.
            other => other.at(Step::Capabilities, format_args!("drop {number}"))?,
        }
    }
    sys::prctl(libc::PR_SET_KEEPCAPS, 1).at(Step::Capabilities, "keep over the change of user")?;
    let groups: Vec<Gid> = plan.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).at(Step::User, format_args!("groups {:?}", plan.groups))?;
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Step::User, format_args!("gid {}", plan.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Step::User, format_args!("uid {}", plan.uid))?;
    set_capabilities(plan).at(Step::Capabilities, format_args!("{:#x}", plan.permitted))
}

fn set_capabilities(plan: &ProcessPlan) -> io::Result<()> {
    /// Version 3 of the kernel's interface: two words of 32 bits.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |shift: u32| Half {
        effective: (plan.effective >> shift) as u32,
        permitted: (plan.permitted >> shift) as u32,
        inheritable: 0,
    };
    let sets = [half(0), half(32)];
    // SAFETY: header and sets have the layout of version 3 and outlive the call.
    sys::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })?;
    sys::check(libc::c_long::from(
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0u64, 0u64, 0u64) },
    ))?;
    Ok(())
}

/// Installs a program made of `sock_filter`s of 8 bytes each; an empty one means no seccomp.
fn install_seccomp(program: &[u8]) -> Result<(), Failure> {
    if program.is_empty() {
        return Ok(());
    }
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program points to len filters that outlive the call; the kernel only reads them.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    sys::check(installed).map(drop).at(Step::Seccomp, "filter")
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program's path, found as the user that will execute it.
fn resolve(program: &str, env: &[String]) -> Result<String, Failure> {
    if program.contains('/') {
        return match executable(program) {
            Ok(()) => Ok(program.to_owned()),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let mut failure = Failure::errno(Step::Exec, program, libc::ENOENT);
                failure.reason = "No such file or directory in the image".to_owned();
                Err(failure)
            }
            Err(Errno::ISDIR) => Err(Failure::errno(Step::Exec, program, libc::EISDIR)),
            Err(error) => Err(sync::explain(program, error.raw_os_error())),
        };
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for directory in path.split(':') {
        let candidate = format!("{}/{program}", if directory.is_empty() { "." } else { directory });
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    let reason =
        if denied { "found, but not executable by this user, in" } else { "not found in the image's" };
    Err(Failure::new(Step::Exec, program, format_args!("{reason} $PATH ({path})")))
}

fn executable(path: &str) -> rustix::io::Result<()> {
    if FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode).is_dir() {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}
