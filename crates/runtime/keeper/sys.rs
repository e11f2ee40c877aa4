//! The system calls the keeper needs, straight to the kernel. Errors are negative errno values, as the kernel gives them.

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    entry = sym entry
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x0, sp",
    "and sp, x0, #-16",
    "bl {entry}",
    "brk #1",
    entry = sym entry
);

extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc, then argv with its null, then envp with its null, at the initial stack pointer.
    let args = unsafe {
        let count = *stack;
        let argv = stack.add(1) as *const *const u8;
        Args { count, argv, envp: argv.add(count + 1) }
    };
    crate::run(args)
}

/// The process's arguments and environment, where the kernel put them.
pub struct Args {
    count: usize,
    argv: *const *const u8,
    envp: *const *const u8,
}

impl Args {
    pub fn get(&self, index: usize) -> Option<&'static [u8]> {
        if index >= self.count {
            return None;
        }
        // SAFETY: index is below argc, and each argument is a C string that lives as long as the process.
        unsafe {
            let start = *self.argv.add(index);
            let mut len = 0;
            while *start.add(len) != 0 {
                len += 1;
            }
            Some(core::slice::from_raw_parts(start, len))
        }
    }

    /// A decimal argument; anything else is a mistake of the launcher and ends the process.
    pub fn number(&self, index: usize) -> u64 {
        match self.get(index).and_then(crate::text::parse) {
            Some(number) => number,
            None => exit(64),
        }
    }

    /// A decimal file descriptor, or nothing for `-`.
    pub fn descriptor(&self, index: usize) -> Option<i32> {
        match self.get(index) {
            Some(b"-") => None,
            _ => Some(self.number(index) as i32),
        }
    }

    /// The argument vector from `index` on, null-terminated, for execve.
    pub fn rest(&self, index: usize) -> *const *const u8 {
        // SAFETY: index is at most argc, where the terminating null is.
        unsafe { self.argv.add(if index > self.count { self.count } else { index }) }
    }

    pub fn environment(&self) -> *const *const u8 {
        self.envp
    }
}

macro_rules! numbers {
    ($($name:ident $x86:literal $arm:literal)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            const $name: usize = $x86;
            #[cfg(target_arch = "aarch64")]
            const $name: usize = $arm;
        )*
    };
}

numbers! {
    READ 0 63
    WRITE 1 64
    CLOSE 3 57
    LSEEK 8 62
    RT_SIGPROCMASK 14 135
    PREAD64 17 67
    CLONE 56 220
    EXECVE 59 221
    WAIT4 61 260
    KILL 62 129
    FCNTL 72 25
    FSYNC 74 82
    FTRUNCATE 77 46
    RT_SIGTIMEDWAIT 128 137
    PRCTL 157 167
    CLOCK_GETTIME 228 113
    EXIT_GROUP 231 94
    OPENAT 257 56
    UNLINKAT 263 35
    PPOLL 271 73
    TIMERFD_CREATE 283 85
    TIMERFD_SETTIME 286 86
    RENAMEAT2 316 276
}

/// One system call with six arguments.
///
/// # Safety
/// The arguments must be what that call expects: every pointer valid for what the kernel reads or writes there.
unsafe fn call(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the x86_64 system call convention; the caller promises the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the registers are those of the aarch64 system call convention; the caller promises the arguments.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack));
    }
    result
}

macro_rules! syscall {
    ($number:expr $(, $arg:expr)*) => {{
        let given = [$($arg as usize),*];
        let mut args = [0usize; 6];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: each use below passes lengths that belong to the slices and structs it points to.
        unsafe { call($number, args) }
    }};
}

pub const EINTR: isize = -4;
pub const EAGAIN: isize = -11;
pub const O_WRONLY: u32 = 1;
pub const O_CREAT: u32 = 0o100;
pub const O_APPEND: u32 = 0o2000;
pub const O_CLOEXEC: u32 = 0o2000000;
pub const SIGKILL: i32 = 9;
pub const SIGCHLD: i32 = 17;
pub const WNOHANG: u32 = 1;
pub const POLLIN: i16 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Time {
    pub seconds: i64,
    pub nanos: i64,
}

pub fn exit(code: i32) -> ! {
    loop {
        syscall!(EXIT_GROUP, code);
    }
}

pub fn read(fd: i32, into: &mut [u8]) -> isize {
    syscall!(READ, fd, into.as_mut_ptr(), into.len())
}

pub fn write(fd: i32, bytes: &[u8]) -> isize {
    syscall!(WRITE, fd, bytes.as_ptr(), bytes.len())
}

pub fn close(fd: i32) {
    syscall!(CLOSE, fd);
}

/// `name` must end in a null byte.
pub fn open_at(dir: i32, name: &[u8], flags: u32, mode: u32) -> isize {
    syscall!(OPENAT, dir, name.as_ptr(), flags, mode)
}

/// Both names must end in a null byte.
pub fn rename_at(dir: i32, from: &[u8], to: &[u8]) -> isize {
    syscall!(RENAMEAT2, dir, from.as_ptr(), dir, to.as_ptr(), 0)
}

/// `name` must end in a null byte.
pub fn unlink_at(dir: i32, name: &[u8]) -> isize {
    syscall!(UNLINKAT, dir, name.as_ptr(), 0)
}

pub fn truncate(fd: i32, size: u64) -> isize {
    syscall!(FTRUNCATE, fd, size)
}

pub fn fsync(fd: i32) -> isize {
    syscall!(FSYNC, fd)
}

/// The file's size, through lseek to its end.
pub fn size(fd: i32) -> u64 {
    let end = syscall!(LSEEK, fd, 0, 2);
    if end < 0 { 0 } else { end as u64 }
}

pub fn poll(fds: &mut [PollFd]) -> isize {
    syscall!(PPOLL, fds.as_mut_ptr(), fds.len(), 0, 0, 8)
}

/// Wall-clock time.
pub fn now() -> Time {
    let mut time = Time { seconds: 0, nanos: 0 };
    syscall!(CLOCK_GETTIME, 0, &mut time as *mut Time);
    time
}

const CLOCK_BOOTTIME: usize = 7;
const TFD_CLOEXEC: u32 = 0o2000000;
const TFD_TIMER_ABSTIME: u32 = 1;

/// Milliseconds since the host started, also those that it slept.
pub fn boottime_ms() -> u64 {
    let mut time = Time { seconds: 0, nanos: 0 };
    syscall!(CLOCK_GETTIME, CLOCK_BOOTTIME, &mut time as *mut Time);
    time.seconds as u64 * 1000 + time.nanos as u64 / 1_000_000
}

/// A descriptor that becomes readable at the time it is set to.
pub fn boottime_timer() -> isize {
    syscall!(TIMERFD_CREATE, CLOCK_BOOTTIME, TFD_CLOEXEC)
}

pub fn set_timer(timer: i32, at_ms: u64) {
    let at = Time { seconds: (at_ms / 1000) as i64, nanos: (at_ms % 1000) as i64 * 1_000_000 };
    let once = [Time { seconds: 0, nanos: 0 }, at];
    syscall!(TIMERFD_SETTIME, timer, TFD_TIMER_ABSTIME, once.as_ptr(), 0);
}

pub fn read_at(fd: i32, into: &mut [u8], offset: u64) -> isize {
    syscall!(PREAD64, fd, into.as_mut_ptr(), into.len(), offset)
}

/// Blocks every signal that can be blocked, or none.
pub fn block_signals(all: bool) {
    let mask: u64 = if all { !0 } else { 0 };
    syscall!(RT_SIGPROCMASK, 2, &mask as *const u64, 0, 8);
}

/// The next pending signal; all must be blocked. Information about the sender is not kept.
pub fn next_signal() -> i32 {
    let mask: u64 = !0;
    loop {
        let signal = syscall!(RT_SIGTIMEDWAIT, &mask as *const u64, 0, 0, 8);
        if signal > 0 {
            return signal as i32;
        }
    }
}

pub fn kill(pid: i32, signal: i32) {
    syscall!(KILL, pid, signal);
}

/// fork(2). Zero in the child.
pub fn fork() -> isize {
    syscall!(CLONE, SIGCHLD, 0, 0, 0, 0)
}

/// wait4(2) without usage: the pid and the raw status.
pub fn wait(pid: i32, options: u32) -> (isize, i32) {
    let mut status = 0i32;
    loop {
        let got = syscall!(WAIT4, pid, &mut status as *mut i32, options, 0);
        if got != EINTR {
            return (got, status);
        }
    }
}

/// Only returns on failure.
pub fn execute(path: &'static [u8], argv: *const *const u8, envp: *const *const u8) -> isize {
    // `path` comes from the argument vector, so its terminating null is there.
    syscall!(EXECVE, path.as_ptr(), argv, envp)
}

pub fn close_on_exec(fd: i32) {
    syscall!(FCNTL, fd, 2, 1);
}

/// Sets the name that `ps` shows. `name` must end in a null byte.
pub fn set_name(name: &[u8]) {
    syscall!(PRCTL, 15, name.as_ptr(), 0, 0, 0);
}

/// Other processes, also of the same user, can neither trace this one nor read its memory.
pub fn forbid_dumps() {
    syscall!(PRCTL, 4, 0, 0, 0, 0);
}
