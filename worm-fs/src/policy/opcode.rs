//! PURE: every opcode of the FUSE protocol, and which rules answer it. An entry point that nobody
//! thought of is how write-once file systems were broken; so the list is complete, and a test
//! compares it with the kernel's own.

use super::Request;

/// Who answers an opcode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answered {
    /// We do, by what [`super::verdict`] says to these requests: it can change something.
    ByRules(&'static [Request]),
    /// We do, and it changes nothing.
    ByLooking,
    /// The library below us, before it comes to us.
    ByLibrary,
    /// The kernel, which never sends it to a mount such as ours.
    ByKernel,
}

/// An opcode of `enum fuse_opcode` in linux/fuse.h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opcode {
    /// Its number.
    pub number: u32,
    /// Its name there, without the prefix `FUSE_`.
    pub name: &'static str,
    /// Who answers it.
    pub answered: Answered,
}

const fn by_rules(number: u32, name: &'static str, requests: &'static [Request]) -> Opcode {
    Opcode { number, name, answered: Answered::ByRules(requests) }
}

const fn by_looking(number: u32, name: &'static str) -> Opcode {
    Opcode { number, name, answered: Answered::ByLooking }
}

const fn by_library(number: u32, name: &'static str) -> Opcode {
    Opcode { number, name, answered: Answered::ByLibrary }
}

const fn by_kernel(number: u32, name: &'static str) -> Opcode {
    Opcode { number, name, answered: Answered::ByKernel }
}

/// All opcodes up to Linux 6.18.
pub const OPCODES: [Opcode; 54] = [
    by_looking(1, "LOOKUP"),
    by_looking(2, "FORGET"),
    by_looking(3, "GETATTR"),
    by_rules(4, "SETATTR", &[Request::SetAttributes, Request::SetLength, Request::SetLengthByPath]),
    by_looking(5, "READLINK"),
    by_rules(6, "SYMLINK", &[Request::Symlink]),
    by_rules(8, "MKNOD", &[Request::MakeNode]),
    by_rules(9, "MKDIR", &[Request::MakeDirectory]),
    by_rules(10, "UNLINK", &[Request::Unlink]),
    by_rules(11, "RMDIR", &[Request::RemoveDirectory]),
    by_rules(12, "RENAME", &[Request::Rename]),
    by_rules(13, "LINK", &[Request::Link]),
    by_rules(14, "OPEN", &[Request::OpenToRead, Request::OpenToAppend, Request::OpenToWrite]),
    by_looking(15, "READ"),
    by_rules(16, "WRITE", &[Request::Write]),
    by_looking(17, "STATFS"),
    by_looking(18, "RELEASE"),
    by_looking(20, "FSYNC"),
    by_rules(21, "SETXATTR", &[Request::SetRetention, Request::SetXattr]),
    by_looking(22, "GETXATTR"),
    by_looking(23, "LISTXATTR"),
    by_rules(24, "REMOVEXATTR", &[Request::SetXattr]),
    by_looking(25, "FLUSH"),
    by_library(26, "INIT"),
    by_looking(27, "OPENDIR"),
    by_looking(28, "READDIR"),
    by_looking(29, "RELEASEDIR"),
    by_looking(30, "FSYNCDIR"),
    by_kernel(31, "GETLK"),
    by_kernel(32, "SETLK"),
    by_kernel(33, "SETLKW"),
    by_kernel(34, "ACCESS"),
    by_rules(35, "CREATE", &[Request::Create]),
    by_library(36, "INTERRUPT"),
    by_kernel(37, "BMAP"),
    by_kernel(38, "DESTROY"),
    by_rules(39, "IOCTL", &[Request::Begin, Request::Commit, Request::Abort, Request::OtherIoctl]),
    by_looking(40, "POLL"),
    by_library(41, "NOTIFY_REPLY"),
    by_looking(42, "BATCH_FORGET"),
    by_rules(43, "FALLOCATE", &[Request::Allocate, Request::AllocateOtherwise]),
    by_looking(44, "READDIRPLUS"),
    by_rules(45, "RENAME2", &[Request::Rename]),
    by_looking(46, "LSEEK"),
    by_rules(47, "COPY_FILE_RANGE", &[Request::Write]),
    by_kernel(48, "SETUPMAPPING"),
    by_kernel(49, "REMOVEMAPPING"),
    by_kernel(50, "SYNCFS"),
    by_library(51, "TMPFILE"),
    by_library(52, "STATX"),
    by_library(53, "COPY_FILE_RANGE_64"),
    by_kernel(4096, "CUSE_INIT"),
    by_kernel(1_048_576, "CUSE_INIT_BSWAP_RESERVED"),
    by_kernel(436_207_616, "INIT_BSWAP_RESERVED"),
];

#[cfg(test)]
mod tests {
    use super::super::FileState;
    use super::super::Identity;
    use super::super::REQUESTS;
    use super::super::Retention;
    use super::super::TARGETS;
    use super::super::Target;
    use super::super::verdict_for;
    use super::*;

    fn requests(opcode: Opcode) -> &'static [Request] {
        match opcode.answered {
            Answered::ByRules(requests) => requests,
            Answered::ByLooking | Answered::ByLibrary | Answered::ByKernel => &[],
        }
    }

    #[test]
    fn every_request_comes_by_some_opcode_and_none_is_listed_twice() {
        for request in REQUESTS {
            assert!(OPCODES.into_iter().any(|opcode| requests(opcode).contains(&request)));
        }
        assert!(OPCODES.windows(2).all(|pair| pair[0].number < pair[1].number));
    }

    /// Every opcode, on every state, by everyone: what is allowed on what is finished, and on a log.
    #[test]
    fn no_opcode_changes_what_is_finished_before_its_time() {
        for opcode in OPCODES {
            for target in TARGETS {
                for who in [Identity::Root, Identity::Owner, Identity::Other] {
                    for request in requests(opcode) {
                        let allowed = verdict_for(who, *request, target).is_ok();
                        let Target::File(state) = target else { continue };
                        let over = matches!(
                            state,
                            FileState::Sealed(Retention::Over)
                                | FileState::Incomplete(Retention::Over)
                                | FileState::Appending(Retention::Over)
                        );
                        let grows = matches!(
                            state,
                            FileState::Appending(Retention::Running | Retention::Held)
                        );
                        let finished = !matches!(state, FileState::Writing { .. });
                        if !finished || !allowed {
                            continue;
                        }
                        let expected = match opcode.name {
                            "OPEN" => {
                                *request == Request::OpenToRead
                                    || (grows && *request == Request::OpenToAppend)
                            }
                            "SETXATTR" => *request == Request::SetRetention,
                            "UNLINK" => over,
                            _ => grows && *request == Request::Write,
                        };
                        assert!(expected, "{} {request:?} by {who:?} on {state:?}", opcode.name);
                    }
                }
            }
        }
    }
}
