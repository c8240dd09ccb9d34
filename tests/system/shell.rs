//! Real programs on a real mount: whatever a shell has to change a file with fails on a sealed
//! one, for root and for its owner, and what people write files with every day works.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use system_tests::binary;
use system_tests::binary::Output;
use system_tests::session::End;
use system_tests::session::Files;
use system_tests::session::GUEST;
use system_tests::session::Mounted;
use system_tests::session::Session;

use crate::promise::attempts::look;

/// Each must fail, and change nothing. `$f` is a sealed file, `$d` the directory that it is in,
/// `$o` another file outside, `$t` a tar of one of the same name.
const DESTROYERS: &[&str] = &[
    "echo x >> $f",
    "echo x > $f",
    ": > $f",
    "cat $o 1<> $f",
    "rm $f",
    "rm -f $f",
    "rm -rf $d",
    "unlink $f",
    "find $d -name x -delete; test ! -e $f",
    "mv $f $d/moved",
    "mv -f $f $d/..",
    "mv -f $o $f",
    "cp $o $d/y && mv -f $d/y $f",
    "mv $d $d-moved",
    "chmod 777 $f",
    "chmod -R 777 $d",
    "chown 1:1 $f",
    "touch $f",
    "touch -d 2000-01-01 $f",
    "truncate -s 0 $f",
    "truncate -s +1 $f",
    "fallocate -l 1M $f",
    "fallocate -p -o 0 -l 2 $f",
    "sed -i s/b/B/ $f",
    "perl -pi -e s/b/B/ $f",
    "dd if=$o of=$f conv=notrunc status=none",
    "dd if=$o of=$f status=none",
    "cp $o $f",
    "cp -f $o $f",
    "cp --remove-destination $o $f",
    "install $o $f",
    "ln $f $d/hard",
    "ln -s $f $d/soft",
    "ln -sf $o $f",
    "mkfifo $d/fifo",
    "mknod $d/node p",
    "tee $f < $o",
    "tee -a $f < $o",
    "shred $f",
    "shred -u $f",
    "sort $o -o $f",
    "gzip $f",
    "gzip -c $o > $f",
    "rsync -I --inplace $o $f",
    "rsync -I $o $f",
    "rsync -rI --delete $e/ $d/",
    "tar -xf $t -C $d",
    "tar --overwrite -xf $t -C $d",
    "tar --recursive-unlink -xf $t -C $d",
    "setfattr -n user.x -v 1 $f",
    "setfattr -n user.worm.state -v writing $f",
    "setfattr -x user.worm.retain_until $f",
    "setfacl -m u:1:rw $f",
    "setfacl -b $f && ! getfattr -n user.worm.state $f",
    "chattr +i $f",
    "chattr -i $f",
    "chattr +a $f",
];

/// Each must succeed, and leave `$n` with the bytes of `$o`.
const WRITERS: &[&str] = &[
    "cp $o $n",
    "cp -p $o $n",
    "cp -a $o $n",
    "cat $o > $n",
    "cat $o >> $n",
    "cat < $o | tee $n",
    "dd if=$o of=$n status=none",
    "dd if=$o of=$n bs=1000 conv=fsync status=none",
    "tar -xf $t -C $d && test -e $d/x",
    "cp -p $o $o.moved && mv $o.moved $n",
    "sort -n $o -o $n",
    "perl -pe 1 $o > $n",
    "gzip -c $o | gunzip -c > $n",
    "{ head -c 10; cat; } < $o > $n",
];

/// A mount, and what the lines above name.
struct Shell {
    session: Mounted,
    outside: tempfile::TempDir,
    user: u32,
    class: &'static str,
}

impl Shell {
    /// As root in a class of root's, or as somebody else in a class of his.
    fn new(user: u32) -> Self {
        let outside = tempfile::tempdir().expect("make a temporary directory");
        let class = if user == 0 { "hourly" } else { "guest" };
        let shell = Self { session: Mounted::default(), outside, user, class };
        let prepare = "mkdir $e tar && chmod 777 . && seq 1 2000 > $o && cp $o tar/x \
            && chmod 640 $o tar/x && touch -d '2001-02-03 04:05:06.123456789Z' $o tar/x \
            && tar --format=posix -C tar -cf $t x && chmod 644 $t && chown -R $u:$u $o $t";
        let mut command = shell.command(prepare);
        let _nothing =
            binary::run(command.env("u", user.to_string()).current_dir(shell.outside.path()))
                .success();
        shell
    }

    fn directory(&self) -> PathBuf {
        self.session.path(self.class)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.outside.path().join("o")).expect("read what is outside")
    }

    /// A line for the shell, run by root.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", line]);
        self.with_names(&mut command);
        command
    }

    fn with_names(&self, command: &mut Command) {
        let outside = |name: &str| self.outside.path().join(name);
        command.env("f", self.directory().join("x")).env("d", self.directory());
        command.env("o", outside("o")).env("t", outside("t.tar")).env("e", outside("empty"));
        command.env("LC_ALL", "C").current_dir("/");
    }

    /// Runs a line as the user of this shell.
    fn run(&self, line: &str, name: &str) -> Output {
        let mut command = if self.user == 0 {
            self.command(line)
        } else {
            let mut command = Command::new("setpriv");
            let user = self.user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
            command.args(["bash", "-c", line]);
            self.with_names(&mut command);
            command
        };
        binary::run(command.env("n", self.directory().join(name)))
    }

    fn below(&self, name: &str) -> Vec<u8> {
        format!("{}/{name}", self.class).into_bytes()
    }

    fn files(&self) -> &dyn Files {
        self.session.active()
    }

    /// Makes a sealed file `$f` of this user's.
    fn seal(&self) -> Vec<u8> {
        let _nothing = self.run("printf bytes > $f && chmod 644 $f || true", "x").success();
        let path = self.below("x");
        self.files().wait_sealed(&path);
        path
    }
}

fn nothing_of_the_shell_changes_a_sealed_file(user: u32) {
    let shell = Shell::new(user);
    let path = shell.seal();
    let before = look(shell.files(), &path);
    let mut succeeded = Vec::new();
    for line in DESTROYERS {
        let output = shell.run(line, "x");
        if output.code() == 0 {
            succeeded.push(output);
        }
        assert_eq!(look(shell.files(), &path), before, "after {line}");
    }
    assert!(succeeded.is_empty(), "these did not fail: {succeeded:#?}");
    assert!(!Path::new(&shell.directory().join("moved")).exists());
    let worm: &dyn Session = &shell.session;
    worm.restart(End::Clean);
    assert_eq!(look(shell.files(), &path), before);
}

#[test]
fn nothing_that_root_has_in_a_shell_changes_a_sealed_file() {
    nothing_of_the_shell_changes_a_sealed_file(0);
}

#[test]
fn nothing_that_its_owner_has_in_a_shell_changes_a_sealed_file() {
    nothing_of_the_shell_changes_a_sealed_file(GUEST);
}

/// Otherwise the two tests above would prove little.
#[test]
fn the_same_lines_do_change_a_plain_file() {
    let shell = Shell::new(0);
    // Our own attributes are only here, and not every temporary directory takes flags.
    let elsewhere = |line: &&&str| !line.contains("user.worm") && !line.contains("chattr");
    for line in DESTROYERS.iter().filter(elsewhere) {
        let plain = tempfile::tempdir_in(shell.outside.path()).unwrap();
        let directory = plain.path().join("mount/class");
        let prepare = "mkdir -p $d && printf bytes > $f && seq 1 2000 > $o && ";
        let mut command = shell.command(&[prepare, line].concat());
        let command = command.env("f", directory.join("x")).env("d", &directory);
        let _words = binary::run(command).success();
    }
}

fn everyday_writers_work_and_seal(user: u32) {
    let shell = Shell::new(user);
    let bytes = shell.bytes();
    for (number, line) in WRITERS.iter().enumerate() {
        let name = if line.contains("-xf") { "x".to_owned() } else { format!("n{number}") };
        let _words = shell.run(line, &name).success();
        let path = shell.below(&name);
        shell.files().wait_sealed(&path);
        let stat = shell.files().stat(&path).unwrap();
        assert!(shell.files().get(&path).unwrap() == bytes, "{line}");
        assert_eq!(stat.size, bytes.len() as u64, "{line}");
        assert_eq!(stat.uid, user, "{line}");
        if ["cp -p", "cp -a", "tar"].iter().any(|keeps| line.starts_with(keeps)) {
            assert_eq!(stat.mode, 0o640, "{line}");
            assert_eq!(stat.mtime_ns, 981_173_106_123_456_789, "{line}");
        }
        let again = shell.run("echo more >> $n", &name);
        assert_ne!(again.code(), 0, "{line}");
    }
}

#[test]
fn everyday_writers_work_and_seal_for_root() {
    everyday_writers_work_and_seal(0);
}

#[test]
fn everyday_writers_work_and_seal_for_somebody_else() {
    everyday_writers_work_and_seal(GUEST);
}

/// `rsync` and `install` set the mode by path when they have closed the file. Whether the seal
/// was quicker is for the kernel to decide; then they say that it did not take. The file is
/// whole and sealed either way.
#[test]
fn writers_that_set_the_mode_after_the_close_leave_a_whole_file() {
    let shell = Shell::new(0);
    for (name, line, too_late) in
        [("a", "rsync --inplace $o $n", 23), ("b", "install -m 644 $o $n", 1)]
    {
        let output = shell.run(line, name);
        assert!(output.code() == 0 || output.code() == too_late, "{output:?}");
        let path = shell.below(name);
        shell.files().wait_sealed(&path);
        assert!(shell.files().get(&path).unwrap() == shell.bytes(), "{line}");
    }
}

#[test]
fn touch_and_truncate_make_files() {
    let shell = Shell::new(0);
    for (name, line, size) in [
        ("a", "touch $n", 0),
        ("b", ": > $n", 0),
        ("c", "truncate -s 1M $n", 1 << 20),
        ("d", "fallocate -l 64K $n", 1 << 16),
        ("e", "dd if=/dev/zero of=$n bs=1 count=1 seek=4095 status=none", 4096),
    ] {
        let _nothing = shell.run(line, name).success();
        let path = shell.below(name);
        shell.files().wait_sealed(&path);
        assert!(shell.files().get(&path).unwrap() == vec![0; size], "{line}");
    }
}

/// Inherited descriptors are closed many times before the end.
#[test]
fn a_group_of_commands_writes_one_file() {
    let shell = Shell::new(0);
    for (name, line, expected) in [
        ("x", "{ echo a; /bin/echo b; } > $n", "a\nb\n"),
        ("y", "( exec 3>$n; /bin/echo 1 >&3; /bin/echo 2 >&3 )", "1\n2\n"),
        (
            "z",
            "exec 3>$n; echo a >&3; (echo b >&3); /bin/echo c >&3; (/bin/echo d) >&3",
            "a\nb\nc\nd\n",
        ),
        ("late", "(sleep 0.2; echo late) > $n & wait", "late\n"),
    ] {
        let _nothing = shell.run(line, name).success();
        let path = shell.below(name);
        shell.files().wait_sealed(&path);
        assert_eq!(shell.files().get(&path).unwrap(), expected.as_bytes(), "{line}");
        assert_ne!(shell.run("echo more >> $n", name).code(), 0, "{line}");
    }
}

#[test]
fn sha256sum_and_the_attribute_agree() {
    let shell = Shell::new(0);
    let _nothing = shell.run("cp $o $n", "x").success();
    let digest = shell.files().wait_sealed(&shell.below("x"));
    let line = "sha256sum < $n && getfattr --only-values -n user.worm.sha256 $n";
    assert_eq!(shell.run(line, "x").success(), format!("{digest}  -\n{digest}"));
}

/// Permission bits hold as on any file system.
#[test]
fn somebody_else_writes_only_where_he_may() {
    let shell = Shell::new(GUEST);
    let line = "touch $d/../hourly/x || mkdir $d/../hourly/x || touch $d/../x";
    assert_ne!(shell.run(line, "x").code(), 0);
    assert_eq!(shell.files().list(b"hourly").unwrap(), [b".incomplete"]);
}
