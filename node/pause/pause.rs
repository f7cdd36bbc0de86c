//! The first process of every pod: holds the pod's namespaces, reaps orphans, ends on TERM or INT.
//!
//! Compiled alone by node/build.rs, without the standard library, to a static program of a few KiB that
//! is the whole of the pause image. Bare system calls are the only way to do anything here, hence unsafe.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;

#[cfg(target_arch = "x86_64")]
mod call {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod call {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
}

#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    result
}

// The kernel jumps here with an aligned stack; a Rust function expects to have been called.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl {main}", main = sym main);

extern "C" fn main() -> ! {
    // Blocked signals are queued even for a first process, which otherwise ignores those it has no
    // handler for.
    let all: u64 = !0;
    let set = &raw const all as usize;
    unsafe {
        syscall(call::RT_SIGPROCMASK, SIG_BLOCK, set, 0, 8);
        loop {
            match syscall(call::RT_SIGTIMEDWAIT, set, 0, 0, 8) {
                SIGCHLD => while syscall(call::WAIT4, usize::MAX, 0, WNOHANG, 0) > 0 {},
                SIGTERM | SIGINT => loop {
                    syscall(call::EXIT_GROUP, 0, 0, 0, 0);
                },
                _ => {}
            }
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        unsafe { syscall(call::EXIT_GROUP, 1, 0, 0, 0) };
    }
}
