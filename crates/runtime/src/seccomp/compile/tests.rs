//! Programs are run by a small interpreter and compared with what the profile says, call by call.

use oci_spec::runtime::{LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSyscallBuilder};

use super::*;
use crate::seccomp::default_profile;

/// Runs a program as the kernel would.
fn run(program: &[Filter], architecture: u32, number: u32, args: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        _ => {
            let argument = args[((offset - ARGUMENTS) / 8) as usize];
            if (offset - ARGUMENTS).is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
        }
    };
    let (mut at, mut value) = (0, 0u32);
    loop {
        let filter = program[at];
        let jump = |taken: bool| usize::from(if taken { filter.when_true } else { filter.when_false });
        at += 1;
        match filter.code {
            LOAD => value = load(filter.operand),
            AND => value &= filter.operand,
            JUMP => at += filter.operand as usize,
            JUMP_EQUAL => at += jump(value == filter.operand),
            JUMP_GREATER => at += jump(value > filter.operand),
            JUMP_AT_LEAST => at += jump(value >= filter.operand),
            RETURN => return filter.operand,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;

/// The slow way: what the profile says about a call without arguments.
fn expected(profile: &LinuxSeccomp, number: u32, args: [u64; 6]) -> u32 {
    let default = answer(profile.default_action(), profile.default_errno_ret()).expect("an answer");
    for rule in profile.syscalls().iter().flatten() {
        let named = rule.names().iter().any(|name| names::number(name) == Some(number));
        let holds = |arg: &LinuxSeccompArg| {
            let (given, value) = (args[arg.index()], arg.value());
            match arg.op() {
                LinuxSeccompOperator::ScmpCmpNe => given != value,
                LinuxSeccompOperator::ScmpCmpLt => given < value,
                LinuxSeccompOperator::ScmpCmpLe => given <= value,
                LinuxSeccompOperator::ScmpCmpEq => given == value,
                LinuxSeccompOperator::ScmpCmpGe => given >= value,
                LinuxSeccompOperator::ScmpCmpGt => given > value,
                LinuxSeccompOperator::ScmpCmpMaskedEq => given & value == arg.value_two().unwrap_or(0),
            }
        };
        if named && rule.args().iter().flatten().all(holds) {
            return answer(rule.action(), rule.errno_ret()).expect("an answer");
        }
    }
    default
}

#[test]
fn every_call_gets_what_the_default_profile_says() {
    for capabilities in [&["CHOWN"][..], &["SYS_ADMIN", "SYS_PTRACE", "BPF"]] {
        let profile = default_profile(capabilities);
        let program = assemble(&profile).expect("a program");
        for number in 0..600 {
            for first in [0, 1, 0x1000_0000, 40, u64::MAX] {
                let args = [first, 0, 0, 0, 0, 0];
                let got = run(&program, AUDIT_ARCH, number, args);
                assert_eq!(got, expected(&profile, number, args), "call {number} with {first:#x}");
            }
        }
    }
}

#[test]
fn other_architectures_and_x32_are_refused() {
    let program = assemble(&default_profile::<&str>(&[])).expect("a program");
    assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    for number in [X32_BIT, X32_BIT + 1, u32::MAX] {
        assert_eq!(run(&program, AUDIT_ARCH, number, [0; 6]), EPERM);
    }
}

#[test]
fn every_comparison_holds_on_both_halves() {
    use LinuxSeccompOperator::*;
    const VALUES: [u64; 9] =
        [0, 1, 5, u32::MAX as u64, 1 << 32, (1 << 32) + 5, (5 << 32) + 1, u64::MAX - 1, u64::MAX];
    for operator in [ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpMaskedEq] {
        for value in VALUES {
            let argument =
                LinuxSeccompArgBuilder::default().index(2usize).value(value).value_two(1u64).op(operator);
            let rule = LinuxSyscallBuilder::default()
                .names(vec!["read".to_owned()])
                .action(LinuxSeccompAction::ScmpActAllow)
                .args(vec![argument.build().expect("an argument")]);
            let profile = LinuxSeccompBuilder::default()
                .default_action(LinuxSeccompAction::ScmpActErrno)
                .syscalls(vec![rule.build().expect("a rule")])
                .build()
                .expect("a profile");
            let program = assemble(&profile).expect("a program");
            for given in VALUES {
                let args = [9, 9, given, 9, 9, 9];
                let number = libc::SYS_read as u32;
                let (got, want) = (run(&program, AUDIT_ARCH, number, args), expected(&profile, number, args));
                assert_eq!(got, want, "{given:#x} {operator:?} {value:#x}");
            }
        }
    }
}

#[test]
fn the_tree_is_shallow() {
    let program = assemble(&default_profile(&["CHOWN"])).expect("a program");
    let ranges = program.iter().filter(|filter| filter.code == JUMP_AT_LEAST).count();
    assert!(ranges < 256, "{ranges} ranges");
    assert!(program.len() < 700, "{} instructions", program.len());
}

#[test]
fn an_unknown_call_cannot_be_denied_by_name() {
    let rule = LinuxSyscallBuilder::default()
        .names(vec!["no_such_call".to_owned()])
        .action(LinuxSeccompAction::ScmpActErrno)
        .build()
        .expect("a rule");
    let profile = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActAllow)
        .syscalls(vec![rule])
        .build()
        .expect("a profile");
    assert_eq!(compile(&profile), Err(SeccompError::Unknown("no_such_call".into())));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let argument = |value: u64| {
        let argument =
            LinuxSeccompArgBuilder::default().index(1usize).op(LinuxSeccompOperator::ScmpCmpEq).value(value);
        argument.build().expect("an argument")
    };
    let check = |errno: Option<u32>, action, values: &[u64]| {
        let mut rule = LinuxSyscallBuilder::default()
            .names(vec!["ioctl".to_owned()])
            .action(action)
            .build()
            .expect("a rule");
        rule.set_args(Some(values.iter().copied().map(argument).collect()));
        rule.set_errno_ret(errno);
        let profile = LinuxSeccompBuilder::default()
            .default_action(LinuxSeccompAction::ScmpActAllow)
            .syscalls(vec![rule])
            .build()
            .expect("a profile");
        assemble(&profile).map(drop)
    };
    use LinuxSeccompAction::{ScmpActAllow, ScmpActErrno};
    assert_eq!(check(Some(38), ScmpActErrno, &[1]), Ok(()));
    assert_eq!(check(Some(38), ScmpActErrno, &[1, 2]), Err(SeccompError::Repeated(1, "ioctl".into())));
    for (errno, action) in [(5000, ScmpActErrno), (38, ScmpActAllow)] {
        assert!(
            matches!(check(Some(errno), action, &[1]), Err(SeccompError::Unsupported(_))),
            "{errno} {action:?}"
        );
    }
}
