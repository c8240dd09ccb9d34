//! The three calls by which a writer tells the mount what its file is. The only `unsafe` code of
//! this crate: an ioctl can do anything, so the compiler cannot know that these are harmless.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::NoArg;
use rustix::ioctl::Opcode;
use rustix::ioctl::opcode;

/// From now on the file counts only if it is committed.
const BEGIN: Opcode = opcode::none(0xF5, 1);
/// The file is whole: seal it.
const COMMIT: Opcode = opcode::none(0xF5, 2);
/// The file will never be whole.
const ABORT: Opcode = opcode::none(0xF5, 3);

/// `BEGIN` on a descriptor open for writing.
pub(super) fn begin(file: impl AsFd) -> Result<(), Errno> {
    call::<BEGIN>(file)
}

/// `COMMIT`: returns when the file is sealed and on disk.
pub(super) fn commit(file: impl AsFd) -> Result<(), Errno> {
    call::<COMMIT>(file)
}

/// `ABORT`: the file is set aside as incomplete.
pub(super) fn abort(file: impl AsFd) -> Result<(), Errno> {
    call::<ABORT>(file)
}

#[expect(unsafe_code, reason = "rustix has no safe way to send an ioctl of our own")]
fn call<const CODE: Opcode>(file: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the three codes carry neither argument nor result, so no memory of ours is touched
    // whatever the kernel or the file system behind the descriptor does with them. Where they are
    // not known the answer is ENOTTY; no file system of Linux uses the type 0xF5 for another.
    unsafe { rustix::ioctl::ioctl(file, NoArg::<CODE>::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_the_mount_documents() {
        assert_eq!([BEGIN, COMMIT, ABORT], [0xF501, 0xF502, 0xF503]);
    }

    #[test]
    fn an_ordinary_file_does_not_know_them() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(begin(&file), Err(Errno::NOTTY));
        assert_eq!(commit(&file), Err(Errno::NOTTY));
        assert_eq!(abort(&file), Err(Errno::NOTTY));
    }
}
