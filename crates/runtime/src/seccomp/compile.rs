//! From an OCI seccomp profile to a classic BPF program that searches for the call's number in a binary tree.
//!
//! A linear list of comparisons costs a container's start four times as much, and every system call of the application
//! afterwards. Neighbouring numbers with the same answer become one range, so the tree is about seven levels deep.
//! Format: seccomp(2), and struct sock_filter in linux/filter.h.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};

use super::names;

/// The profile cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    #[error("linux.seccomp in the OCI spec: {0} is not supported by this runtime; remove it")]
    Unsupported(&'static str),
    #[error(
        "linux.seccomp in the OCI spec: {0} is no system call that this runtime knows, so it cannot be denied by name"
    )]
    Unknown(String),
    #[error("linux.seccomp in the OCI spec: argument {0} of {1} does not exist; there are 0 to 5")]
    Argument(usize, String),
    #[error("linux.seccomp in the OCI spec: a rule for {1} names argument {0} twice; make two rules of it")]
    Repeated(usize, String),
    #[error(
        "linux.seccomp in the OCI spec: the program would have {0} instructions, and the kernel takes 4096"
    )]
    TooLong(usize),
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// Numbers from here on belong to the x32 ABI, which shares the architecture with x86_64.
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// One instruction, as struct sock_filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    code: u16,
    when_true: u8,
    when_false: u8,
    operand: u32,
}

fn step(code: u16, operand: u32) -> Filter {
    Filter { code, when_true: 0, when_false: 0, operand }
}

/// One profile's rule for one call, in the order of the profile.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    conditions: Vec<Condition>,
    answer: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Condition {
    index: u32,
    operator: LinuxSeccompOperator,
    value: u64,
    second: u64,
}

/// The program as raw bytes, in the machine's byte order.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    let program = assemble(profile)?;
    if program.len() > 4096 {
        return Err(SeccompError::TooLong(program.len()));
    }
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for filter in program {
        bytes.extend_from_slice(&filter.code.to_ne_bytes());
        bytes.extend_from_slice(&[filter.when_true, filter.when_false]);
        bytes.extend_from_slice(&filter.operand.to_ne_bytes());
    }
    Ok(bytes)
}

fn assemble(profile: &LinuxSeccomp) -> Result<Vec<Filter>, SeccompError> {
    check_supported(profile)?;
    let default = answer(profile.default_action(), profile.default_errno_ret())?;
    let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for rule in profile.syscalls().as_deref().unwrap_or_default() {
        add_rule(rule, default, &mut calls)?;
    }
    let mut program = vec![step(LOAD, ARCHITECTURE)];
    // A call of another architecture has other numbers: none of the rules is about it.
    program.push(Filter { code: JUMP_EQUAL, when_true: 1, when_false: 0, operand: AUDIT_ARCH });
    program.push(step(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(step(LOAD, NUMBER));
    program.extend(tree(&ranges(&calls, default), default));
    Ok(program)
}

fn check_supported(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    if profile.listener_path().is_some() || profile.listener_metadata().is_some() {
        return Err(SeccompError::Unsupported("listenerPath"));
    }
    // The one flag that is always set; see start/process.rs.
    let known =
        |flag: &LinuxSeccompFilterFlag| matches!(flag, LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow);
    if !profile.flags().iter().flatten().all(known) {
        return Err(SeccompError::Unsupported("a flag other than SECCOMP_FILTER_FLAG_SPEC_ALLOW"));
    }
    let native = if cfg!(target_arch = "x86_64") { Arch::ScmpArchX86_64 } else { Arch::ScmpArchAarch64 };
    // Further architectures are only ever denied here, which is stricter than what is asked.
    match profile.architectures() {
        Some(list)
            if !list.is_empty() && !list.contains(&native) && !list.contains(&Arch::ScmpArchNative) =>
        {
            Err(SeccompError::Unsupported("an architecture list without this machine's"))
        }
        _ => Ok(()),
    }
}

/// What the kernel shall do, as a return value of the program.
fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    /// Of the kernel: a larger one would reach the application as this.
    const LARGEST_ERRNO: u32 = 4095;
    if errno.is_some_and(|errno| action != LinuxSeccompAction::ScmpActErrno || errno > LARGEST_ERRNO) {
        return Err(SeccompError::Unsupported("an errnoRet beyond 4095, or without SCMP_ACT_ERRNO,"));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | errno.unwrap_or(libc::EPERM as u32),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Unsupported("SCMP_ACT_NOTIFY")),
        LinuxSeccompAction::ScmpActTrace => return Err(SeccompError::Unsupported("SCMP_ACT_TRACE")),
    })
}

fn add_rule(
    rule: &LinuxSyscall,
    default: u32,
    calls: &mut BTreeMap<u32, Vec<Rule>>,
) -> Result<(), SeccompError> {
    let answer = answer(rule.action(), rule.errno_ret())?;
    let args = rule.args().as_deref().unwrap_or_default();
    let repeated = |(at, arg): (usize, &LinuxSeccompArg)| {
        args[..at].iter().any(|other| other.index() == arg.index()).then_some(arg.index())
    };
    // Other runtimes take either for enough, which is not what the OCI spec says; so nobody shall guess.
    if let Some(index) = args.iter().enumerate().find_map(repeated) {
        return Err(SeccompError::Repeated(index, rule.names().join(", ")));
    }
    for name in rule.names() {
        let condition = |arg: &LinuxSeccompArg| match arg.index() {
            index @ 0..=5 => Ok(Condition {
                index: index as u32,
                operator: arg.op(),
                value: arg.value(),
                second: arg.value_two().unwrap_or(0),
            }),
            index => Err(SeccompError::Argument(index, name.clone())),
        };
        let conditions: Result<_, _> = args.iter().map(condition).collect();
        match names::number(name) {
            Some(number) => calls.entry(number).or_default().push(Rule { conditions: conditions?, answer }),
            // Profiles name calls of many kernels and machines. One that is not allowed stays as the default says.
            None if answer == libc::SECCOMP_RET_ALLOW || answer == default => {}
            // Answering "not there" is what happens anyway to a call that this machine does not have.
            None if default != libc::SECCOMP_RET_ALLOW => {}
            None => return Err(SeccompError::Unknown(name.clone())),
        }
    }
    Ok(())
}

/// Where a range of call numbers begins, and the rules for all of it; without rules the default holds.
type Range = (u32, Vec<Rule>);

/// The whole number space cut into ranges with the same rules.
fn ranges(calls: &BTreeMap<u32, Vec<Rule>>, default: u32) -> Vec<Range> {
    let mut ranges: Vec<Range> = vec![(0, Vec::new())];
    let mut begin = |number: u32, rules: &[Rule]| match ranges.last_mut() {
        Some((_, last)) if last.as_slice() == rules => {}
        Some((start, last)) if *start == number => *last = rules.to_vec(),
        _ => ranges.push((number, rules.to_vec())),
    };
    let mut next = 0;
    for (&number, rules) in calls.range(..X32_BIT) {
        if number > next {
            begin(next, &[]);
        }
        // What always gives the default's answer is the default.
        let plain = rules.iter().all(|rule| rule.answer == default);
        begin(number, if plain { &[] } else { rules });
        next = number + 1;
    }
    begin(next, &[]);
    ranges
}

/// Binary search: each node jumps right when the number is at least the middle's.
fn tree(ranges: &[Range], default: u32) -> Vec<Filter> {
    let [_, _, ..] = ranges else {
        return leaf(ranges.first().map_or(&[][..], |(_, rules)| rules), default);
    };
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let (left, right_code) = (tree(left, default), tree(right, default));
    let middle = right[0].0;
    let mut code = match u8::try_from(left.len()) {
        Ok(distance) => {
            vec![Filter { code: JUMP_AT_LEAST, when_true: distance, when_false: 0, operand: middle }]
        }
        // Conditional jumps reach 255 instructions; an unconditional one reaches all.
        Err(_) => vec![
            Filter { code: JUMP_AT_LEAST, when_true: 0, when_false: 1, operand: middle },
            step(JUMP, left.len() as u32),
        ],
    };
    code.extend(left);
    code.extend(right_code);
    code
}

/// The first rule whose conditions all hold answers; else the default.
fn leaf(rules: &[Rule], default: u32) -> Vec<Filter> {
    let mut code = Vec::new();
    for rule in rules {
        let mut body = vec![step(RETURN, rule.answer)];
        // From the last condition to the first, so that each knows how far it is to the rule's end.
        for condition in rule.conditions.iter().rev() {
            let mut checked = check(condition, body.len() as u8);
            checked.extend(body);
            body = checked;
        }
        code.extend(body);
        if rule.conditions.is_empty() {
            return code;
        }
    }
    code.push(step(RETURN, default));
    code
}

/// Compares a 64-bit argument in two halves; six arguments at most, so every jump is short. Falls through when it holds, else jumps over `rest` more instructions.
fn check(condition: &Condition, rest: u8) -> Vec<Filter> {
    let low_at = ARGUMENTS + condition.index * 8;
    let high_at = low_at + 4;
    let (value, second) = (condition.value, condition.second);
    let (high, low) = ((value >> 32) as u32, value as u32);
    let jump = |code, operand, when_true, when_false| Filter { code, when_true, when_false, operand };
    // In each list: positions count from the jump, and the list's end is where it holds.
    match condition.operator {
        LinuxSeccompOperator::ScmpCmpEq => vec![
            step(LOAD, high_at),
            jump(JUMP_EQUAL, high, 0, rest + 2),
            step(LOAD, low_at),
            jump(JUMP_EQUAL, low, 0, rest),
        ],
        LinuxSeccompOperator::ScmpCmpNe => vec![
            step(LOAD, high_at),
            jump(JUMP_EQUAL, high, 0, 2),
            step(LOAD, low_at),
            jump(JUMP_EQUAL, low, rest, 0),
        ],
        LinuxSeccompOperator::ScmpCmpMaskedEq => vec![
            step(LOAD, high_at),
            step(AND, high),
            jump(JUMP_EQUAL, (second >> 32) as u32, 0, rest + 3),
            step(LOAD, low_at),
            step(AND, low),
            jump(JUMP_EQUAL, second as u32, 0, rest),
        ],
        LinuxSeccompOperator::ScmpCmpGt => {
            ordered(high_at, low_at, high, jump(JUMP_GREATER, low, 0, rest), true, rest)
        }
        LinuxSeccompOperator::ScmpCmpGe => {
            ordered(high_at, low_at, high, jump(JUMP_AT_LEAST, low, 0, rest), true, rest)
        }
        LinuxSeccompOperator::ScmpCmpLt => {
            ordered(high_at, low_at, high, jump(JUMP_AT_LEAST, low, rest, 0), false, rest)
        }
        LinuxSeccompOperator::ScmpCmpLe => {
            ordered(high_at, low_at, high, jump(JUMP_GREATER, low, rest, 0), false, rest)
        }
    }
}

/// Order comparisons: the upper halves decide unless they are equal, then `last` decides with the lower ones.
fn ordered(high_at: u32, low_at: u32, high: u32, last: Filter, greater: bool, rest: u8) -> Vec<Filter> {
    let (above, below) = if greater { (3, rest + 2) } else { (rest + 3, 2) };
    vec![
        step(LOAD, high_at),
        Filter { code: JUMP_GREATER, when_true: above, when_false: 0, operand: high },
        Filter { code: JUMP_EQUAL, when_true: 0, when_false: below, operand: high },
        step(LOAD, low_at),
        last,
    ]
}

#[cfg(test)]
mod tests;
