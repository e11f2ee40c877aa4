//! The memory functions that the compiler calls and that libc would have brought.

macro_rules! volatile_copy {
    ($to:ident, $from:ident, $index:expr) => {
        // SAFETY: the callers of these functions promise both ranges. Volatile, so that the compiler does not
        // recognise a copy loop and call the very function that it is in.
        unsafe { core::ptr::write_volatile($to.add($index), core::ptr::read_volatile($from.add($index))) }
    };
}

/// # Safety
/// As memcpy(3): both ranges are valid for `len` bytes and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller promises both ranges; `rep movsb` touches exactly them, forwards.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for index in 0..len {
        volatile_copy!(to, from, index);
    }
    to
}

/// # Safety
/// As memmove(3): both ranges are valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize) <= (from as usize) {
        // Forwards is right for overlapping ranges too when the target lies before the source.
        // SAFETY: the caller promises both ranges; both implementations of memcpy here copy forwards.
        return unsafe { memcpy(to, from, len) };
    }
    for index in (0..len).rev() {
        volatile_copy!(to, from, index);
    }
    to
}

/// # Safety
/// As memset(3): the range is valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller promises the range; `rep stosb` touches exactly it.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") value as u8,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for index in 0..len {
        // SAFETY: the caller promises the range.
        unsafe { core::ptr::write_volatile(to.add(index), value as u8) };
    }
    to
}

/// # Safety
/// As memcmp(3): both ranges are valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    for index in 0..len {
        // SAFETY: the caller promises both ranges. Volatile for the same reason as above.
        let (a, b) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(left, right, len) }
}

/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller promises a terminating null, and nothing is read beyond it. Volatile as above.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}
