//! The programs that people change files with every day. Each fails on a finished file; its exit
//! code counts, and is reported as `EPERM`.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::io::Errno;

use super::Row;
use super::field::Field;
use crate::session::Result;

/// Makes, outside, what the lines name: `$o` other bytes, `$t` a tar of one file of the same name,
/// `$e` an empty directory, `$p` a directory with one file of the same name.
const PREPARE: &str = "mkdir -p $e $p && seq 1 2000 > $o && cp $o $p/$n && tar -C $p -cf $t $n";

fn shell(field: &Field, line: &str) -> Result<()> {
    let outside = |name: &str| field.outside.join(name);
    let name = field.file.file_name().expect("a name");
    let script =
        if outside("t.tar").exists() { line.to_owned() } else { format!("{PREPARE} && {line}") };
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(Path::new("/")).env("LC_ALL", "C");
    command.env("f", &field.file).env("d", &field.dir).env("u", &field.above).env("n", name);
    command.env("b", &field.other).env("o", outside("o")).env("t", outside("t.tar"));
    command.env("e", outside("empty")).env("p", outside("same"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().expect("start bash");
    if status.success() { Ok(()) } else { Err(Errno::PERM) }
}

macro_rules! lines {
    ($($line:literal),* $(,)?) => { &[$(Row::refused($line, |f| shell(f, $line))),*] };
}

/// See the module. `$f` is the file, `$d` its directory, `$u` the one above, `$b` a finished file
/// beside it.
pub(super) const ROWS: &[Row] = lines![
    "echo x > $f",
    "echo x >> $f",
    ": > $f",
    "cat $o 1<> $f",
    "tee $f < $o",
    "tee -a $f < $o",
    "sed -i s/b/B/ $f",
    "sed -i.bak s/b/B/ $f",
    "perl -pi -e s/b/B/ $f && grep -qa B $f",
    "perl -e 'truncate($ENV{f}, 0) or exit 1'",
    "perl -MFile::Copy -e 'copy($ENV{o}, $ENV{f}) or exit 1'",
    "perl -MFile::Copy -e 'move($ENV{b}, $ENV{f}) or exit 1'",
    "dd if=$o of=$f conv=notrunc status=none",
    "dd if=$o of=$f oflag=append conv=notrunc status=none",
    "dd if=$o of=$f bs=1 count=1 seek=100 conv=notrunc status=none",
    "dd if=$o of=$f status=none",
    "cp $o $f",
    "cp -f $o $f",
    "cp -p $b $f",
    "cp -al $b $d/hard && mv -f $d/hard $f",
    "cp --remove-destination $o $f",
    "cp --reflink=auto $b $f",
    "cp -al $f $d/hard",
    "install $o $f",
    "install -m 600 $o $f",
    "rsync -I --inplace $o $f",
    "rsync -I $o $f",
    "rsync -rI --delete $e/ $d/",
    "rsync --remove-source-files $f $e/",
    "tar -xf $t -C $d",
    "tar --overwrite -xf $t -C $d",
    "tar --recursive-unlink -xf $t -C $d",
    "tar --remove-files -cf $e/a.tar -C $d $n",
    "sort $b -o $f",
    "truncate -s 0 $f",
    "truncate -s +1 $f",
    "truncate -r $b $f",
    "fallocate -l 1M $f",
    "fallocate -p -o 0 -l 4096 $f",
    "fallocate -z -o 0 -l 4096 $f",
    "fallocate -d $f",
    "shred $f",
    "shred -u $f",
    "gzip -f $f",
    "touch $f",
    "touch -a $f",
    "touch -d 2000-01-01 $f",
    "touch -r $o $f",
    "chmod 777 $f",
    "chmod -R 777 $d",
    "chmod --reference=/bin/sh $f",
    "chown 1:1 $f",
    "chgrp 1 $f",
    "unshare -r chown 0:0 $f",
    "unshare -r chmod 600 $f",
    "setfattr -n user.x -v 1 $f",
    "setfacl -m u:1:rw $f",
    "setfacl -d -m u:1:rw $d",
    "chattr +i $f",
    "chattr +a $f",
    "chattr -i $f",
    "chattr +d $f",
    "ln $f $d/hard",
    "ln -f $b $f",
    "ln -s $f $d/soft",
    "ln -sf $o $f",
    "mkfifo $d/fifo",
    "mknod $d/node p",
    "mv $f $d/moved",
    "mv -f $f $u/moved",
    "cp $o $o.copy && mv -f $o.copy $f",
    "mv -f $b $f",
    "mv $d $d-moved",
    "rm $f",
    "rm -f $f",
    "rm -rf $d",
    "rm -rf $u",
    "rmdir $d",
    "unlink $f",
    "find $d -type f -delete; test ! -e $f",
];
