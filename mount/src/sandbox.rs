//! What the daemon gives up when its mounts are made: capabilities (capabilities(7)), new
//! privileges (`PR_SET_NO_NEW_PRIVS`), files that are none of its business (landlock(7)), and
//! system calls that it has no use for (seccomp(2)).
//!
//! All of it holds for the calling thread and those that it starts. So it comes before any thread
//! is started. What the kernel does not have is left out, and said.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::ABI;
use landlock::Access as _;
use landlock::AccessFs;
use landlock::AccessNet;
use landlock::CompatLevel;
use landlock::Compatible as _;
use landlock::LandlockStatus;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr as _;
use landlock::RulesetCreatedAttr as _;
use landlock::RulesetError;
use landlock::RulesetStatus;
use landlock::Scope;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;

/// What is still needed.
pub(crate) struct Needs<'a> {
    /// Capabilities.
    pub(crate) capabilities: CapabilitySet,
    /// Files and directories to read and to change.
    pub(crate) change: Vec<&'a Path>,
    /// Files and directories to read.
    pub(crate) read: Vec<&'a Path>,
}

/// Gives everything else up, for this thread and those that it starts, and says in a line what is
/// in force.
pub(crate) fn enter(needs: &Needs<'_>) -> String {
    let said = [
        drop_capabilities(needs.capabilities),
        take_no_new_privileges(),
        landlock(needs).unwrap_or_else(|error| format!("no landlock ({error})")),
        seccomp().map_or_else(|error| format!("no seccomp ({error})"), |()| "seccomp".to_owned()),
    ];
    said.join(", ")
}

/// Keeps only these capabilities, and says what is left.
pub(crate) fn drop_capabilities(keep: CapabilitySet) -> String {
    let kept = || -> Result<CapabilitySet, Errno> {
        let now = rustix::thread::capabilities(None)?;
        for capability in CapabilitySet::all().iter() {
            if !keep.contains(capability) {
                // What cannot be raised again by a program that is started. None is.
                let gone = rustix::thread::remove_capability_from_bounding_set(capability);
                tracing::trace!(?gone, ?capability);
            }
        }
        rustix::thread::clear_ambient_capability_set()?;
        let left = now.permitted & keep;
        let sets = CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)?;
        Ok(left)
    };
    match kept() {
        Ok(left) if left.is_empty() => "no capabilities".to_owned(),
        Ok(left) => {
            let names: Vec<_> = left.iter_names().map(|(name, _)| name.to_lowercase()).collect();
            format!("capabilities {} only", names.join(" "))
        }
        Err(errno) => format!("all capabilities kept ({errno})"),
    }
}

/// No program that it starts gets more than it has.
pub(crate) fn take_no_new_privileges() -> String {
    match rustix::thread::set_no_new_privs(true) {
        Ok(()) => "no new privileges".to_owned(),
        Err(errno) => format!("new privileges not given up ({errno})"),
    }
}

/// The rights that the tests were run with. Later ones are not taken unseen.
const KNOWN: ABI = ABI::V6;

/// Only these files, no TCP connections to others, no signals to others, and no change to what is mounted.
fn landlock(needs: &Needs<'_>) -> Result<String, RulesetError> {
    let ruleset = Ruleset::default()
        // Without it (Linux 5.13 to 5.18) no file can be moved to its place.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        // What is listened at is nobody's concern here; what is called is: backups leave that way.
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::Signal)?;
    let mut created = ruleset.create()?;
    for (paths, rights) in [
        (&needs.change, AccessFs::from_all(KNOWN) & !AccessFs::Execute),
        (&needs.read, AccessFs::from_read(KNOWN) & !AccessFs::Execute),
    ] {
        for path in paths {
            // What is not there cannot be allowed, and needs not be.
            let Ok(opened) = PathFd::new(path) else { continue };
            let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(KNOWN) };
            created = created.add_rule(PathBeneath::new(opened, rights))?;
        }
    }
    let status = created.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => "no landlock (the kernel has none)".to_owned(),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            format!("landlock abi {}", kernel_abi.unwrap_or(effective_abi as i32))
        }
        (RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced, _) => {
            "landlock".to_owned()
        }
    })
}

/// System calls for which the daemon has no use, and an intruder has. They get `EPERM`.
const REFUSED: &[libc::c_long] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_personality,
    // What is mounted, and name spaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_fsconfig,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files without their paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // Its clocks: retention depends on them.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // The kernel's larger doors.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
];

/// The second set of numbers by which x86-64 kernels may know the same calls.
#[cfg(target_arch = "x86_64")]
const ALIASES: &[i64] = &[0, 0x4000_0000];
/// Other machines have one number for a call.
#[cfg(not(target_arch = "x86_64"))]
const ALIASES: &[i64] = &[0];

fn seccomp() -> Result<(), Box<dyn std::error::Error>> {
    let calls = REFUSED.iter().flat_map(|call| ALIASES.iter().map(move |alias| call | alias));
    let rules: BTreeMap<i64, _> = calls.map(|call| (call, Vec::new())).collect();
    let refused = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;

    use super::*;

    /// Enters the sandbox in a thread of its own: it is the only one that stays in it.
    fn inside<T: Send>(try_out: impl FnOnce(&Path) -> T + Send) -> (String, T) {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        std::fs::create_dir(&store).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let needs = Needs {
                    capabilities: CapabilitySet::SYS_ADMIN,
                    change: vec![&store],
                    read: vec![Path::new("/proc")],
                };
                (enter(&needs), try_out(&store))
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn what_is_in_force_is_said() {
        let (said, ()) = inside(|_| ());
        let start = "capabilities sys_admin only, no new privileges, landlock abi ";
        assert!(said.starts_with(start) && said.ends_with(", seccomp"), "{said}");
    }

    #[test]
    fn capabilities_are_gone() {
        let (_, refused) = inside(|store| {
            let file = store.join("x");
            File::create_new(&file).unwrap();
            std::os::unix::fs::chown(&file, Some(1), Some(1)).map_err(|error| error.kind())
        });
        assert_eq!(refused, Err(ErrorKind::PermissionDenied));
        let (_, privileges) = inside(|_| rustix::thread::no_new_privs().unwrap());
        assert!(privileges);
    }

    #[test]
    fn files_elsewhere_are_out_of_reach_and_those_inside_are_not() {
        let (_, (elsewhere, beside, written, read)) = inside(|store| {
            let elsewhere = File::open("/etc/passwd").map(drop).map_err(|error| error.kind());
            let beside = File::create_new(store.with_extension("x")).map(drop);
            let beside = beside.map_err(|error| error.kind());
            let (deep, deeper) = (store.join("deep"), store.join("deep/er"));
            std::fs::create_dir_all(&deeper).unwrap();
            File::create_new(deep.join("x")).unwrap();
            let moved = rustix::fs::rename(deep.join("x"), deeper.join("x"));
            (elsewhere, beside, moved, File::open("/proc/version").map(drop))
        });
        assert_eq!(elsewhere, Err(ErrorKind::PermissionDenied));
        assert_eq!(beside, Err(ErrorKind::PermissionDenied));
        written.unwrap();
        read.unwrap();
    }

    #[test]
    fn nothing_is_started_mounted_or_set() {
        let (_, (started, mounted, clock)) = inside(|store| {
            let started = std::process::Command::new("/bin/true").status();
            let flags = rustix::mount::MountFlags::empty();
            let mounted = rustix::mount::mount("none", store, "tmpfs", flags, None);
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let clock = rustix::time::clock_settime(rustix::time::ClockId::Realtime, now);
            (started.map_err(|error| error.kind()).map(drop), mounted, clock)
        });
        assert_eq!(started, Err(ErrorKind::PermissionDenied));
        assert_eq!(mounted, Err(Errno::PERM));
        assert_eq!(clock, Err(Errno::PERM));
    }

    #[test]
    fn without_passthrough_no_capability_is_left() {
        let said = std::thread::spawn(|| {
            let none = CapabilitySet::empty();
            enter(&Needs { capabilities: none, change: Vec::new(), read: Vec::new() })
        });
        assert!(said.join().unwrap().starts_with("no capabilities, "));
    }
}
