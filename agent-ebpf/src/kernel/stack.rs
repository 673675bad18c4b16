//! Where a program's stack is.

/// Keeps the program on the stack of its task. To be called first by every program on a probe in user space.
///
/// From 6.13 on the kernel gives programs of this type stacks by processor, since what runs them lets no second one
/// begin there. Probes in user space are run without that guard, and where the kernel may be preempted (from 7.0 on as a
/// rule) two tasks' programs then share one stack: the kernel itself falls. (Seen on 7.3: `tls_go` read a spilled
/// pointer of another task.) A program that has a tail call is left on the task's stack (`check_max_stack_depth`,
/// kernel/bpf/verifier.c); this one is never made, and removed as dead.
#[inline(always)]
pub fn stay_on_the_tasks() {
    // SAFETY: the jump is always taken: the call is not made.
    unsafe {
        core::arch::asm!(
            "r0 = 0",
            "if r0 == 0 goto +1",
            "call {tail_call}",
            tail_call = const 12,
            out("r0") _,
            options(nomem, nostack),
        );
    }
}
