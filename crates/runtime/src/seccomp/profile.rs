//! The default system call filter: what ordinary programs need, and nothing that only administrates a machine.
//!
//! Everything that is not allowed fails with EPERM, as if a right were missing. Left out, among others: kernel keyrings,
//! io_uring, userfaultfd, BPF, perf events, mounting, namespaces, loading modules, clocks, old and odd calls. A
//! capability that the container has brings back what it is for.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// Calls that every container may make.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown clock_adjtime clock_getres
    clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve
    execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate
    futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd
    getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr listxattrat
    llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore
    mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at
    nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2
    read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr setxattrat
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statmount statx
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate ugetrlimit umask
    uname unlink unlinkat uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev arch_prctl
    modify_ldt process_madvise
";

/// Calls that a capability brings back.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("BPF", "bpf"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    ("PERFMON", "perf_event_open"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
         sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node move_pages migrate_pages"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYSLOG", "syslog"),
];

/// The flags with which clone makes namespaces.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Socket families that reach around the network namespace (AF_VSOCK) or into the kernel's crypto (AF_ALG).
const REFUSED_FAMILIES: [u64; 2] = [libc::AF_ALG as u64, libc::AF_VSOCK as u64];

/// The profile for a container with these capabilities (names without `CAP_`).
pub fn default_profile<S: AsRef<str>>(capabilities: &[S]) -> LinuxSeccomp {
    let has = |name: &str| capabilities.iter().any(|capability| capability.as_ref() == name);
    let mut rules = vec![allow(ALLOWED, Vec::new())];
    for (capability, calls) in BY_CAPABILITY {
        if has(capability) {
            rules.push(allow(calls, Vec::new()));
        }
    }
    if !has("SYS_ADMIN") {
        rules.push(allow("clone", vec![argument(0, LinuxSeccompOperator::ScmpCmpMaskedEq, NAMESPACE_FLAGS)]));
        // Its flags lie in memory, where a filter cannot look. This answer makes libraries use clone instead.
        rules.push(rule("clone3", LinuxSeccompAction::ScmpActErrno, Some(libc::ENOSYS as u32), Vec::new()));
    }
    // One rule for each gap between the refused families.
    let [first, second] = REFUSED_FAMILIES;
    rules.push(allow("socket", vec![argument(0, LinuxSeccompOperator::ScmpCmpLt, first)]));
    let between = |value| argument(0, LinuxSeccompOperator::ScmpCmpEq, value);
    rules.extend((first + 1..second).map(|family| allow("socket", vec![between(family)])));
    rules.push(allow("socket", vec![argument(0, LinuxSeccompOperator::ScmpCmpGt, second)]));
    // Reading the execution domain, and setting the ones that change nothing but reported versions.
    for domain in [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(allow("personality", vec![argument(0, LinuxSeccompOperator::ScmpCmpEq, domain)]));
    }
    let mut profile = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .flags(vec![LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow])
        .syscalls(rules)
        .build()
        .unwrap_or_default();
    profile.set_default_errno_ret(Some(libc::EPERM as u32));
    profile
}

fn allow(calls: &str, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    rule(calls, LinuxSeccompAction::ScmpActAllow, None, args)
}

fn rule(
    calls: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Vec<LinuxSeccompArg>,
) -> LinuxSyscall {
    let names: Vec<String> = calls.split_whitespace().map(str::to_owned).collect();
    // Every required field is set, so building cannot fail; a default rule would name no call and allow nothing.
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action).build().unwrap_or_default();
    rule.set_errno_ret(errno);
    if !args.is_empty() {
        rule.set_args(Some(args));
    }
    rule
}

fn argument(index: usize, operator: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
    let mut argument = LinuxSeccompArgBuilder::default().index(index).op(operator).value(value);
    if operator == LinuxSeccompOperator::ScmpCmpMaskedEq {
        argument = argument.value_two(0u64);
    }
    // Every required field is set, so building cannot fail.
    argument.build().unwrap_or_default()
}
