//! Runs a program as on an older kernel, or under a container runtime that hides a newer one: no
//! Landlock, no seccomp, no dropping of capabilities, and nothing is mounted beneath a mount.
//! `old-kernel PROGRAM ARGUMENT...`

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::MaskedEq;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;

/// The place of the flags among the arguments of move_mount(2).
const FLAGS: u8 = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let beneath = u64::from(rustix::mount::MoveMountFlags::MOVE_MOUNT_BENEATH.bits());
    let condition = SeccompCondition::new(FLAGS, Dword, MaskedEq(beneath), beneath)?;
    refuse(&[(libc::SYS_move_mount, vec![SeccompRule::new(vec![condition])?])], libc::EINVAL)?;
    let unknown = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
        libc::SYS_capset,
        // From here on no further filter comes in.
        libc::SYS_seccomp,
    ];
    refuse(&unknown.map(|call| (call, Vec::new())), libc::ENOSYS)?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("name a program")?;
    Err(Command::new(program).args(arguments).exec().into())
}

/// Lets these system calls fail, for this process and all that it starts.
fn refuse(
    calls: &[(libc::c_long, Vec<SeccompRule>)],
    errno: i32,
) -> Result<(), Box<dyn std::error::Error>> {
    let refused = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let rules = calls.iter().cloned().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
