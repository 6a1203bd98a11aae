//! System calls that a host never needs, held by seccomp.
//!
//! They answer EPERM and end nobody: a library that tries one and can do without goes on. A list of
//! what is allowed would break with each new version of a library; the guests make no system calls
//! at all.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Calls that reach into other processes, the kernel, its devices, keys and mounts, or that make
/// the others of this list possible.
const REFUSED: &[i64] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    // Namespaces.
    libc::SYS_setns,
    libc::SYS_unshare,
    // Files past every path.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The kernel: its code, its programs, its events, page faults, requests that pass by filters.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// New namespaces by `clone`, whose first argument they are flags of.
const NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    // CLONE_NEWTIME is of `clone3` and `unshare` alone.
    libc::CLONE_PTRACE,
];

/// Refuses them on all threads.
pub(super) fn apply(execute: bool) -> Result<(), seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let namespaces = NAMESPACES.map(namespace).into_iter();
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    if !execute {
        rules.insert(libc::SYS_execve, Vec::new());
        rules.insert(libc::SYS_execveat, Vec::new());
    }
    let refused = filter(arch, rules, libc::EPERM)?;
    // Its flags are behind a pointer that a filter cannot follow. Callers take this answer for an
    // old kernel and use `clone`.
    let unseen = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let unseen = filter(arch, unseen, libc::ENOSYS)?;
    apply_filter_all_threads(&unseen)?;
    apply_filter_all_threads(&refused)
}

fn namespace(flag: i32) -> Result<SeccompRule, BackendError> {
    let flag = u64::from(flag.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    )?])
}

fn filter(
    arch: TargetArch,
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    answer: i32,
) -> Result<BpfProgram, BackendError> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(answer.cast_unsigned()),
        arch,
    )?;
    #[allow(unused_mut, reason = "there is one interface on other processors")]
    let mut program = BpfProgram::try_from(filter)?;
    #[cfg(target_arch = "x86_64")]
    x32::refuse(&mut program);
    Ok(program)
}

/// The interface of 32-bit pointers: it passes for this processor's own, with other numbers, so
/// that no list of numbers would hold it.
#[cfg(target_arch = "x86_64")]
mod x32 {
    use seccompiler::{BpfProgram, sock_filter};

    /// Instructions that look at the processor, before which nothing is to be put.
    const LOOKS_AT_ARCH: usize = 3;
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    /// Set in the number of each of its calls.
    const BIT: u32 = 0x4000_0000;
    /// SECCOMP_RET_ERRNO with EPERM.
    const REFUSED: u32 = 0x0005_0001;

    pub(super) fn refuse(program: &mut BpfProgram) {
        let is = |code, jf, k| sock_filter { code, jt: 0, jf, k };
        let first = [
            is(LOAD_NUMBER, 0, 0),
            is(JUMP_IF_AT_LEAST, 1, BIT),
            is(RETURN, 0, REFUSED),
        ];
        program.splice(LOOKS_AT_ARCH..LOOKS_AT_ARCH, first);
    }
}
