//! Which `pg_dump` to use: one at least as new as the server, and of those the oldest.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::manifest::Codec;
use crate::manifest::Kind;

/// Where Debian and its relatives keep each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// A program that does not even say its version in this time is of no use.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `pg_dump` that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Client {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its major version.
    pub(crate) major: u32,
    /// What `--version` printed.
    pub(crate) version: String,
}

impl Client {
    /// The program beside it that reads its archives.
    pub(crate) fn restorer(&self) -> PathBuf {
        self.path.with_file_name("pg_restore")
    }

    /// The program beside it that writes roles and tablespaces.
    pub(crate) fn dumper_of_all(&self) -> PathBuf {
        self.path.with_file_name("pg_dumpall")
    }
}

/// The first version whose programs agree on how to write an archive out as SQL.
const ARCHIVES_SINCE: u32 = 12;
/// The first version that packs archives by zstd.
const ZSTD_SINCE: u32 = 16;

/// The oldest client that can write this form, whatever the server.
pub(crate) fn needed(kind: Kind, codec: Codec) -> u32 {
    match (kind, codec) {
        (Kind::Plain, _) => 0,
        (Kind::Custom | Kind::Directory, Codec::Zstd) => ZSTD_SINCE,
        (Kind::Custom | Kind::Directory, Codec::Gzip | Codec::None) => ARCHIVES_SINCE,
    }
}

/// The client for a server: an older one than the server refuses it, a much newer one may write
/// what the server's own version cannot read back.
pub(crate) fn choose(clients: &[Client], server_major: u32) -> Option<&Client> {
    clients.iter().filter(|client| client.major >= server_major).min_by_key(|client| client.major)
}

/// The major version in `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let rest = version.split_once("(PostgreSQL) ")?.1;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Asks every `pg_dump` for its version, until one is just right: those of the versioned directories
/// first, then those in `search_path`; only those in `only` if that is given.
pub(crate) async fn find(search_path: &str, only: Option<&Path>, server_major: u32) -> Vec<Client> {
    let mut seen = BTreeSet::new();
    let mut clients = Vec::new();
    for directory in directories(search_path, only) {
        let path = directory.join("pg_dump");
        let Ok(real) = path.canonicalize() else { continue };
        if seen.insert(real) {
            clients.extend(ask(path).await);
        }
        if clients.iter().any(|client| client.major == server_major) {
            break;
        }
    }
    clients
}

fn directories(search_path: &str, only: Option<&Path>) -> Vec<PathBuf> {
    if let Some(only) = only {
        return vec![only.to_owned()];
    }
    let mut versioned: Vec<PathBuf> = std::fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versioned.sort();
    versioned.extend(std::env::split_paths(search_path));
    versioned
}

async fn ask(path: PathBuf) -> Option<Client> {
    let mut command = Command::new(&path);
    command.arg("--version").env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    let major = major(&version)?;
    Some(Client { path, major, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(majors: &[u32]) -> Vec<Client> {
        majors
            .iter()
            .enumerate()
            .map(|(n, major)| Client {
                path: PathBuf::from(format!("/{n}")),
                major: *major,
                version: String::new(),
            })
            .collect()
    }

    #[track_caller]
    fn check(majors: &[u32], server: u32, expected: Option<&str>) {
        let clients = clients(majors);
        let path = choose(&clients, server).map(|client| client.path.to_str().unwrap());
        assert_eq!(path, expected, "{majors:?} for {server}");
    }

    #[test]
    fn the_oldest_that_is_new_enough_is_chosen() {
        check(&[13, 15, 17], 15, Some("/1"));
        check(&[13, 17, 16], 15, Some("/2"));
        check(&[17, 15, 15], 15, Some("/1"));
        check(&[13, 14], 15, None);
        check(&[], 15, None);
    }

    #[test]
    fn archives_need_a_client_that_can_write_them() {
        assert_eq!(needed(Kind::Plain, Codec::Zstd), 0);
        assert_eq!(needed(Kind::Custom, Codec::Gzip), 12);
        assert_eq!(needed(Kind::Directory, Codec::Zstd), 16);
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        assert_eq!(major("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major("pg_dump (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("pg_dump (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(major("pg_dump (PostgreSQL) 17"), Some(17));
        assert_eq!(major("something else"), None);
    }
}
