//! Binds a unix socket in place of what a dead daemon left there.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// Binds a socket with this mode; `flag` chooses another place. What a dead daemon left is
/// replaced; a living one is not, nor anything that is no socket.
pub(crate) fn bind(path: &Path, mode: u32, flag: &str) -> Outcome<UnixListener> {
    let busy = |what: &str| {
        let message = format!("{}: {what}: choose another place with {flag}", path.display());
        Failure::new(Exit::Busy, message)
    };
    match path.symlink_metadata() {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(busy("there is something that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(busy("another daemon listens there"));
        }
        Ok(_) | Err(_) => {}
    }
    let bind = || -> io::Result<UnixListener> {
        // Made under another name: nobody meets it before its mode is right, and what a dead
        // daemon left is replaced in one step.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        match rustix::fs::unlink(&new) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, Permissions::from_mode(mode))?;
        rustix::fs::rename(&new, path)?;
        Ok(listener)
    };
    bind().map_err(Failure::doing(format_args!("listen at {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = std::env::temp_dir().join(format!("worm-unix-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("socket");
        drop(bind(&path, 0o600, "--socket").unwrap());
        let living = bind(&path, 0o600, "--socket").unwrap();
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let failure = bind(&path, 0o600, "--socket").unwrap_err();
        assert_eq!(failure.exit, Exit::Busy);
        assert!(failure.message.contains("another daemon"), "{}", failure.message);
        UnixStream::connect(&path).unwrap();
        drop(living);
        let precious = directory.join("precious");
        std::fs::File::create(&precious).unwrap();
        let failure = bind(&precious, 0o600, "--socket").unwrap_err();
        assert!(failure.message.contains("no socket"), "{}", failure.message);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
