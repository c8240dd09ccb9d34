//! I/O: archives of `pg_dump`, read by `pg_restore` and written out as SQL, which then takes the way of
//! every dump: one transaction, committed last.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use worm_ingest::manifest::Kind;
use worm_ingest::scratch::Scratch;

use crate::error::Error;
use crate::error::Result;
use crate::restore::psql;
use crate::restore::stream::Fault;
use crate::restore::stream::damaged;
use crate::restore::version::Version;

/// One piece of an archive.
const BUFFER_BYTES: usize = 256 << 10;
/// Of what `pg_restore` complains about, so much is shown.
const WORDS_MAX: usize = 2000;

/// Who reads an archive, and where.
#[derive(Debug)]
pub(crate) struct Tools {
    kind: Kind,
    restorer: PathBuf,
    /// Where the files of a directory go.
    scratch: Option<Scratch>,
}

impl Tools {
    /// What is needed for such a dump, made by that version of `pg_dump`.
    pub(crate) async fn find(kind: Kind, dump: Option<Version>, scratch: &Path) -> Result<Self> {
        if kind == Kind::Plain {
            return Ok(Self { kind, restorer: PathBuf::new(), scratch: None });
        }
        // A newer one writes what an older server may not understand.
        let needed = dump.map_or(0, |dump| dump.major);
        let mut found: Option<(Version, PathBuf)> = None;
        for path in psql::candidates("pg_restore") {
            let Some(version) = psql::version(&path).await else { continue };
            let better = found.as_ref().is_none_or(|(found, _)| version.major < found.major);
            if version.major >= needed && better {
                found = Some((version, path));
            }
        }
        let Some((_, restorer)) = found else {
            return Err(Error::Refused(format!(
                "there is no pg_restore of version {needed} or newer: install \
                 postgresql-client-{needed}"
            )));
        };
        let made = (kind == Kind::Directory).then(|| Scratch::make(scratch)).transpose();
        let scratch = made.map_err(Error::io(format!(
            "make a scratch directory in {} (--scratch names another)",
            scratch.display()
        )))?;
        Ok(Self { kind, restorer, scratch })
    }

    /// Gives the SQL of `dump` to `pass`, which reads it to its end.
    pub(super) fn as_sql(
        &self,
        mut dump: impl Read + Send,
        pass: impl FnOnce(&mut dyn Read) -> std::result::Result<(), Fault>,
    ) -> std::result::Result<(), Fault> {
        match (self.kind, &self.scratch) {
            (Kind::Plain, _) => pass(&mut dump),
            (Kind::Directory, Some(scratch)) => {
                unpack(dump, scratch.path())?;
                let child = self.start(Some(scratch.path()))?;
                conclude(child, pass, || Ok(()))
            }
            (Kind::Custom | Kind::Directory, _) => thread::scope(|scope| {
                let mut child = self.start(None)?;
                let input = child.stdin.take();
                let feeder = scope.spawn(move || feed(dump, input));
                conclude(child, pass, || {
                    feeder.join().unwrap_or_else(|_panic| {
                        Err(Error::Failed("a thread ended early".to_owned()))
                    })
                })
            }),
        }
    }

    fn start(&self, directory: Option<&Path>) -> Result<Child> {
        let input = if directory.is_some() { Stdio::null() } else { Stdio::piped() };
        Command::new(&self.restorer)
            .arg("--file=-")
            .args(directory)
            .env_clear()
            .envs(psql::inherited())
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io(format!("start {}", self.restorer.display())))
    }
}

/// Passes on what `child` writes, and waits until it and whoever feeds it have ended.
fn conclude(
    mut child: Child,
    pass: impl FnOnce(&mut dyn Read) -> std::result::Result<(), Fault>,
    fed: impl FnOnce() -> Result<()>,
) -> std::result::Result<(), Fault> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let words = thread::spawn(move || words(stderr));
    let passed = match stdout {
        Some(mut stdout) => pass(&mut stdout),
        None => Ok(()),
    };
    if passed.is_err() {
        // Ends the feeder, too. An error here means that it has ended by itself.
        drop(child.kill());
    }
    let fed = fed();
    let status = child.wait().map_err(Error::io("wait for pg_restore"))?;
    let words = words.join().unwrap_or_default();
    passed?;
    fed?;
    if status.success() {
        return Ok(());
    }
    Err(damaged(&format!("cannot be read by pg_restore ({status}): {words}")).into())
}

/// Gives an archive to `pg_restore`. It may stop reading before its end; the rest is read all the
/// same, since all of it must have the right digest.
fn feed(mut dump: impl Read, mut input: Option<impl Write>) -> Result<()> {
    let mut piece = vec![0; BUFFER_BYTES];
    loop {
        match dump.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                if input.as_mut().is_some_and(|input| input.write_all(&piece[..len]).is_err()) {
                    input = None;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(damaged(&format!("cannot be unpacked: {error}"))),
        }
    }
}

/// Unpacks the tar file of the agent: plain files, side by side, in one directory. Anything else
/// was not made by the agent, and might lead out of the scratch directory.
fn unpack(dump: impl Read, directory: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(dump);
    let unreadable = |error: io::Error| damaged(&format!("cannot be unpacked: {error}"));
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let mut parts = path.components();
        let name = match (parts.next(), parts.next(), parts.next()) {
            (Some(Component::Normal(_)), Some(Component::Normal(name)), None) => name,
            _ => return Err(damaged(&format!("holds a strange file: {}", path.display()))),
        };
        if !entry.header().entry_type().is_file() {
            return Err(damaged(&format!("holds a strange file: {}", path.display())));
        }
        let mut file = File::create_new(directory.join(name))
            .map_err(Error::io("make a file in the scratch directory"))?;
        let _bytes = io::copy(&mut entry, &mut file)
            .map_err(Error::io("unpack into the scratch directory"))?;
    }
    Ok(())
}

/// The last that a program said.
fn words(stderr: Option<impl Read>) -> String {
    let mut said = Vec::new();
    for piece in stderr.into_iter() {
        drop(piece.take(1 << 20).read_to_end(&mut said));
    }
    let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
    let from = said.len().saturating_sub(WORDS_MAX);
    said.get(from..).map_or_else(|| said.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(path: &str, kind: tar::EntryType) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_entry_type(kind);
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, &b"text"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn only_files_of_the_archive_are_unpacked() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        unpack(&tar_of("dump/toc.dat", tar::EntryType::Regular)[..], &inside).unwrap();
        assert_eq!(std::fs::read(inside.join("toc.dat")).unwrap(), b"text");
        for (path, kind) in [
            ("../outside", tar::EntryType::Regular),
            ("dump/../../outside", tar::EntryType::Regular),
            ("/outside", tar::EntryType::Symlink),
            ("dump/link", tar::EntryType::Symlink),
            ("dump/a/b", tar::EntryType::Regular),
            ("dump", tar::EntryType::Directory),
        ] {
            let error = unpack(&tar_of(path, kind)[..], &inside).unwrap_err();
            assert!(error.to_string().contains("strange file"), "{path}: {error}");
        }
        assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
