//! Runs a program where the kernel knows neither Landlock nor seccomp and lets nobody drop
//! capabilities, as under some container runtimes: `deny-sandbox PROGRAM ARGUMENT...`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let calls = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
        libc::SYS_seccomp,
        libc::SYS_capset,
    ];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("name a program")?;
    Err(Command::new(program).args(arguments).exec().into())
}
