//! PURE: how `mount(8)` calls us, in our own words. For `mount -t worm STORE DIRECTORY` and for lines
//! of `/etc/fstab` it starts `/sbin/mount.worm STORE DIRECTORY [-sfnv] [-o OPTIONS] [-t TYPE]
//! [-N NAMESPACE]` (mount(8), "External helpers"). That name is a link to `worm`.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// The name by which `mount(8)` starts us.
const NAME: &[u8] = b"mount.worm";

/// Options of ours: each is the flag of `worm mount` with the same name, and takes a value.
const WITH_VALUE: &[&str] = &[
    "view",
    "logs",
    "view-group",
    "config",
    "key",
    "run-dir",
    "socket",
    "metrics",
    "private-store",
    "private-type",
    "threads",
    "log-format",
];
/// Options of ours that take none.
const PLAIN: &[&str] = &["no-passthrough", "read-only"];
/// Options that are for others, or that hold for every mount of ours anyway.
const PASSED_OVER: &[&str] = &[
    "defaults",
    "rw",
    "auto",
    "noauto",
    "nofail",
    "nouser",
    "nosuid",
    "nodev",
    "noexec",
    "async",
    "noatime",
    "nodiratime",
    "relatime",
    "_netdev",
    "allow_other",
    "default_permissions",
];

/// What `mount(8)` wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// The arguments of `worm` that do it.
    Run(Vec<OsString>),
    /// To say yes and do nothing (`mount --fake`).
    Nothing,
}

/// Whether the program was started under the name that `mount(8)` uses.
pub(crate) fn is_called(program: &OsStr) -> bool {
    program.as_bytes().rsplit(|byte| *byte == b'/').next() == Some(NAME)
}

/// Turns the arguments behind the program's name into those of `worm mount`.
///
/// # Errors
/// One line that says what is not understood.
pub(crate) fn translate(arguments: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let (mut places, mut flags, mut fake) = (Vec::new(), Vec::new(), false);
    let mut rest = arguments;
    while let Some(argument) = rest.next() {
        match argument.as_bytes() {
            b"-o" => {
                let options = rest.next().ok_or("-o without options")?;
                for option in options.as_bytes().split(|byte| *byte == b',') {
                    flags.extend(flag(OsStr::from_bytes(option))?);
                }
            }
            b"-t" => drop(rest.next()),
            b"-N" => return Err("a namespace (-N) is not supported: run it there".to_owned()),
            letters @ [b'-', _, ..] => {
                if let Some(odd) = letters[1..].iter().find(|letter| !b"sfnv".contains(letter)) {
                    return Err(format!("unknown flag -{}", char::from(*odd)));
                }
                fake |= letters.contains(&b'f');
            }
            _ => places.push(argument),
        }
    }
    if places.len() != 2 {
        return Err("usage: mount -t worm STORE DIRECTORY [-o OPTIONS]".to_owned());
    }
    if fake {
        return Ok(Asked::Nothing);
    }
    let words = ["worm", "mount"].into_iter().map(OsString::from);
    // A place that begins with a dash is no flag.
    Ok(Asked::Run(words.chain(flags).chain([OsString::from("--")]).chain(places).collect()))
}

/// The flag that an option stands for.
fn flag(option: &OsStr) -> Result<Option<OsString>, String> {
    let shown = option.to_string_lossy();
    let name = shown.split('=').next().unwrap_or_default();
    let has_value = name.len() < shown.len();
    if (has_value && WITH_VALUE.contains(&name)) || (!has_value && PLAIN.contains(&name)) {
        let mut flag = OsString::from("--");
        flag.push(option);
        return Ok(Some(flag));
    }
    match name {
        "ro" => Ok(Some(OsString::from("--read-only"))),
        // Comments for other programs (systemd.mount(5)), and what we do not need to know.
        _ if name.is_empty() || name.starts_with("x-") || name.starts_with("X-") => Ok(None),
        _ if !has_value && PASSED_OVER.contains(&name) => Ok(None),
        _ if WITH_VALUE.contains(&name) => Err(format!("option {name} needs a value: {name}=...")),
        _ => Err(format!("unknown option {shown:?}; those of `worm mount --help` are known")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[track_caller]
    fn check(line: &str, expected: Result<&str, &str>) {
        let got = translate(line.split(' ').map(OsString::from));
        let got = got.map(|asked| match asked {
            Asked::Run(words) => words.join(OsStr::new(" ")).into_string().unwrap(),
            Asked::Nothing => String::new(),
        });
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{line}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{line}: {got}"),
            (got, expected) => panic!("{line}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn what_mount_says_is_what_worm_does() {
        check("/s /m", Ok("worm mount -- /s /m"));
        check("/s /m -n -o rw,view=/v,logs=/l", Ok("worm mount --view=/v --logs=/l -- /s /m"));
        check("/s /m -sv -o ro -t worm", Ok("worm mount --read-only -- /s /m"));
        let fstab = "/s /m -o rw,nofail,noatime,x-systemd.automount,no-passthrough,threads=4";
        check(fstab, Ok("worm mount --no-passthrough --threads=4 -- /s /m"));
        check("/s /m -fv", Ok(""));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        check("/s", Err("usage"));
        check("/s /m /n", Err("usage"));
        check("/s /m -o", Err("without options"));
        check("/s /m -o veiw=/v", Err("unknown option \"veiw=/v\""));
        check("/s /m -o view", Err("needs a value"));
        check("/s /m -o remount", Err("unknown option"));
        check("/s /m -x", Err("unknown flag -x"));
        check("/s /m -N 7", Err("namespace"));
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        for (program, called) in [
            ("/sbin/mount.worm", true),
            ("mount.worm", true),
            ("/sbin/worm", false),
            ("/mount.worm/worm", false),
        ] {
            assert_eq!(is_called(OsStr::new(program)), called, "{program}");
        }
    }

    #[test]
    fn every_flag_of_worm_mount_is_an_option() {
        let worm = Cli::command();
        let mount = worm.find_subcommand("mount").unwrap();
        for flag in mount.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let Some(name) = flag.get_long() else { continue };
            let takes_value = flag.get_action().takes_values();
            let known = if takes_value { WITH_VALUE } else { PLAIN };
            // Where mount(8) waits for us, the daemon goes to the background.
            assert_eq!(known.contains(&name), name != "foreground", "{name}");
        }
    }
}
