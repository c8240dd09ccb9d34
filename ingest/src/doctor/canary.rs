//! Seals a tiny file and then tries to change it in every way that a thief would.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::vault::Class;
use crate::vault::VaultError;

/// A class of its own, so that what is tried never touches a backup, and is soon gone.
pub(super) const CLASS: &str = "canary";

/// What became of the tries.
#[derive(Debug)]
pub(super) struct Canary {
    /// What was tried, and the name of the errno that was answered; none if it was let happen.
    pub(super) tries: Vec<(&'static str, Option<String>)>,
    /// By how much the mount's clock is ahead.
    pub(super) ahead: Option<SignedDuration>,
}

/// Why nothing was tried.
#[derive(Debug)]
pub(super) struct NotTried {
    pub(super) is_no_class: bool,
    pub(super) message: String,
}

/// Seals a file in the class and tries to change it.
pub(super) fn send(root: &Path) -> Result<Canary, NotTried> {
    let failed = |error: VaultError| NotTried {
        is_no_class: matches!(error, VaultError::UnknownClass { .. }),
        message: error.to_string(),
    };
    let class = Arc::new(Class::open(root, CLASS, false).map_err(failed)?);
    let now = Timestamp::now();
    let name = format!("canary-{}-{}", now.as_nanosecond(), std::process::id());
    class.put(&name, b"This file must not change.\n").map_err(failed)?;
    let path = class.path().join(&name);
    let ahead = sealed_at(&path).map(|at| at.duration_since(now));
    Ok(Canary { tries: tries(&path), ahead })
}

fn tries(path: &Path) -> Vec<(&'static str, Option<String>)> {
    let open = |flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
    let mut beside = path.as_os_str().to_owned();
    beside.push("-moved");
    let truncate = || std::fs::File::options().write(true).truncate(true).open(path).map(drop);
    let rename = || rustix::fs::renameat_with(CWD, path, CWD, &beside, RenameFlags::NOREPLACE);
    // The least harm first: where one succeeds, the next still finds the file.
    [
        ("open it for writing", open(OFlags::WRONLY).map(drop).map_err(io::Error::from)),
        ("append to it", open(OFlags::WRONLY | OFlags::APPEND).map(drop).map_err(Into::into)),
        ("change its mode", std::fs::set_permissions(path, mode())),
        ("truncate it", truncate()),
        ("rename it", rename().map_err(io::Error::from)),
        ("remove it", std::fs::remove_file(path)),
    ]
    .into_iter()
    .map(|(what, result)| (what, result.err().map(|error| answer(&error))))
    .collect()
}

fn mode() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

fn answer(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => "EPERM".to_owned(),
        Some(_) | None => error.to_string(),
    }
}

fn sealed_at(path: &Path) -> Option<Timestamp> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, "user.worm.sealed_at", &mut value[..]).ok()?;
    std::str::from_utf8(&value[..length]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_directory_lets_everything_happen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        drop(std::fs::File::create_new(&path).unwrap());
        let tries = tries(&path);
        assert_eq!(tries.len(), 6);
        let refused: Vec<_> = tries.iter().filter(|(_, answer)| answer.is_some()).collect();
        // What was renamed cannot be removed under its name.
        assert!(matches!(refused.as_slice(), [("remove it", _)]), "{tries:?}");
        let error = send(directory.path()).unwrap_err();
        assert!(!error.is_no_class && error.message.contains("not write-once"), "{error:?}");
    }
}
