//! What the arguments mean, checked for sense. There is no other way to get one than from `cli`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::MirrorArgs;
use crate::cli::RestoreArgs;
use crate::error::Error;
use crate::error::Result;
use crate::listing::View;
use crate::restore::identity::Identities;
use crate::restore::target::PASSWORD;
use crate::restore::target::Target;

/// A run of `once` that makes sense.
#[derive(Debug)]
pub struct OnceConfig {
    /// Where to read.
    pub(crate) view: View,
    /// Where to write; an absolute path without links.
    pub(crate) mirror: PathBuf,
    /// The class to copy, or all.
    pub(crate) class: Option<String>,
    /// Where copies grow, if not at the default place.
    pub(crate) staging: Option<PathBuf>,
    /// The audit log.
    pub(crate) audit: PathBuf,
    /// Whether to read again what the audit log vouches for.
    pub(crate) rehash: bool,
    /// Whether a run that found nothing to do leaves no line in the audit log.
    pub(crate) unattended: bool,
}

impl OnceConfig {
    /// A run that somebody asked for.
    ///
    /// # Errors
    /// What makes no sense, is not there or does not answer.
    pub fn attended(args: MirrorArgs) -> Result<Self> {
        Self::new(args, false)
    }

    /// One of many that nobody asked for.
    ///
    /// # Errors
    /// As [`OnceConfig::attended`].
    pub fn unattended(args: MirrorArgs) -> Result<Self> {
        Self::new(args, true)
    }

    fn new(args: MirrorArgs, unattended: bool) -> Result<Self> {
        let view = View::open(&args.from, args.allow_plain)?;
        let mirror = directory(&args.to)?;
        let source = args
            .from
            .canonicalize()
            .map_err(Error::io(format!("look at {}", args.from.display())))?;
        if mirror.starts_with(&source) || source.starts_with(&mirror) {
            return Err(Error::Usage(format!(
                "{} and {} lie inside one another: give the mirror a place of its own",
                args.from.display(),
                args.to.display()
            )));
        }
        Ok(Self {
            view,
            mirror,
            class: args.class,
            staging: args.staging,
            audit: args.audit,
            rehash: args.rehash,
            unattended,
        })
    }
}

/// A restore that makes sense.
#[derive(Debug)]
pub struct RestoreConfig {
    /// The backup to restore.
    pub(crate) backup: Selector,
    /// Where it goes.
    pub(crate) target: Target,
    /// The audit log.
    pub(crate) audit: PathBuf,
    /// Whether to make the roles that are missing.
    pub(crate) globals: bool,
    /// Whether the user takes the risk of a database that is not empty, or of an older server.
    pub(crate) force: bool,
    /// Whether to stop before anything is changed.
    pub(crate) preview: bool,
    /// What opens encrypted backups.
    pub(crate) identities: Arc<Identities>,
    /// Where the files of a directory archive are unpacked.
    pub(crate) scratch: PathBuf,
}

/// Where the latest backup is looked for, and what may be it.
#[derive(Debug)]
pub(crate) struct Latest {
    /// The mirror, or the mount.
    pub(crate) from: PathBuf,
    /// One class, or all.
    pub(crate) class: Option<String>,
    /// One database, or the only one.
    pub(crate) database: Option<String>,
    /// Whether one may be it that looks as if something had happened to its database.
    pub(crate) include_suspect: bool,
}

/// Which backup is meant.
#[derive(Debug)]
pub(crate) enum Selector {
    /// The newest complete one below a mirror or a mount.
    Latest(Latest),
    /// This dump, or the one that this manifest is of.
    Path(PathBuf),
}

impl TryFrom<RestoreArgs> for RestoreConfig {
    type Error = Error;

    fn try_from(args: RestoreArgs) -> Result<Self> {
        let password = password()?;
        let target = Target::parse(&args.to, |name| match name {
            PASSWORD => password.clone(),
            _ => std::env::var(name).ok().filter(|value| !value.is_empty()),
        })?;
        let backup = match args.backup.as_str() {
            "latest" => Selector::Latest(Latest {
                from: args.from,
                class: args.class,
                database: args.database,
                include_suspect: args.include_suspect,
            }),
            _path if args.database.is_some() => {
                let both =
                    "--database goes with `latest`: a path says itself which backup is meant";
                return Err(Error::Usage(both.to_owned()));
            }
            path => Selector::Path(path.into()),
        };
        let identities = Arc::new(Identities::read(&args.identity)?);
        let RestoreArgs { audit, globals, force, preview, scratch, .. } = args;
        let scratch = scratch.unwrap_or_else(std::env::temp_dir);
        Ok(Self { backup, target, audit, globals, force, preview, identities, scratch })
    }
}

/// `PGPASSWORD`, or what the file named by `PGPASSWORD_FILE` holds but for one final newline.
fn password() -> Result<Option<String>> {
    let given = std::env::var(PASSWORD).ok().filter(|value| !value.is_empty());
    let Some(path) = std::env::var_os("PGPASSWORD_FILE").filter(|path| !path.is_empty()) else {
        return Ok(given);
    };
    if given.is_some() {
        let both = "PGPASSWORD and PGPASSWORD_FILE are both set: unset one";
        return Err(Error::Usage(both.to_owned()));
    }
    let path = PathBuf::from(path);
    let mut text = std::fs::read_to_string(&path).map_err(|error| {
        Error::Usage(format!("cannot read PGPASSWORD_FILE {}: {error}", path.display()))
    })?;
    if text.ends_with('\n') {
        let _newline = text.pop();
    }
    Ok(Some(text))
}

/// The mirror is never made here: if a NAS is not mounted, its mount point is not there or empty,
/// and copies on the system disk would look like copies offsite.
fn directory(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    match path.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(_) => Err(Error::Usage(format!("the mirror {shown} is not a directory"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NotFound(
            format!("the mirror {shown} does not exist: mount it, or make the directory"),
        )),
        Err(error) => Err(Error::io(format!("look at the mirror {shown}"))(error)),
    }
}
