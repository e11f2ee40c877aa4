//! Device rules on cgroup2: a BPF program that answers for each access whether it is allowed.
//!
//! The rules come from `bpf_cgroup_dev_ctx` (linux/bpf.h): `access_type` is the access in its upper 16 bits (1 mknod,
//! 2 read, 4 write) and the device type in its lower 16 (1 block, 2 character); then major and minor.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::open_dir;
use crate::plan::DeviceRule;
use crate::sys::check;

/// One BPF instruction, as in linux/bpf.h; the registers are the two halves of one byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const AND_NUMBER: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate: immediate as i32 }
}

/// The program: type in r2, access in r3, major in r4, minor in r5; the first rule that fits answers 1, none answers 0.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_NUMBER, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        code.extend(block(rule));
    }
    code.push(instruction(MOVE_NUMBER, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// One rule: every comparison that fails jumps behind the rule.
fn block(rule: &DeviceRule) -> Vec<Instruction> {
    let allowed = [(rule.mknod, 1), (rule.read, 2), (rule.write, 4)];
    let allowed: u32 = allowed.into_iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum();
    let mut code = vec![
        instruction(JUMP_NOT_EQUAL, 2, 0, 0, if rule.block { 1 } else { 2 }),
        // Any bit of the access that is not allowed remains, and the rule does not fit.
        instruction(MOVE_REGISTER, 1, 3, 0, 0),
        instruction(AND_NUMBER, 1, 0, 0, !allowed & 7),
        instruction(JUMP_NOT_EQUAL, 1, 0, 0, 0),
    ];
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        code.extend(number.map(|number| instruction(JUMP_NOT_EQUAL, register, 0, 0, number)));
    }
    code.push(instruction(MOVE_NUMBER, 0, 0, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    let end = code.len();
    for (index, jump) in code.iter_mut().enumerate().filter(|(_, jump)| jump.code == JUMP_NOT_EQUAL) {
        jump.offset = (end - index - 1) as i16;
    }
    code
}

/// The part of bpf_attr that loading a program needs.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of bpf_attr that attaching a program needs.
#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Attaches the rules to the group; they hold as long as the group exists.
pub(super) fn attach(group: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let code = program(rules);
    let load = LoadAttr {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attribute is valid for its size, and the program and license it points to outlive the call.
    let loaded = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<LoadAttr>())
    })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let group = open_dir(group)?;
    let attach = AttachAttr {
        target: group.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attribute is valid for its size and holds open descriptors.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<AttachAttr>())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_lands_behind_its_rule() {
        for rule in &DeviceRule::STANDARD {
            let code = block(rule);
            for (index, jump) in code.iter().enumerate().filter(|(_, jump)| jump.code == JUMP_NOT_EQUAL) {
                assert_eq!(index + 1 + jump.offset as usize, code.len());
            }
        }
    }
}
