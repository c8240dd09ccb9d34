//! `worm why` and `worm show`: what stands at a path, in one line or in full.

use serde::Serialize;
use worm_fs::config::Mode;
use worm_fs::report;
use worm_fs::report::Description;
use worm_fs::report::HoldRow;
use worm_fs::report::InClass;
use worm_fs::report::Keeping;
use worm_fs::report::Standing;

use crate::cli::admin::PathArgs;
use crate::control::Ask;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::subject::Subject;
use crate::words::bytes;
use crate::words::json;
use crate::words::moment;
use crate::words::span;
use crate::words::time_left;

/// Runs `worm why`.
pub(crate) fn why(args: &PathArgs) -> Outcome {
    #[derive(Serialize)]
    struct Why<'a> {
        why: &'a str,
        #[serde(flatten)]
        description: &'a Description,
    }
    let description = described(args)?;
    let why = &line(&description);
    if args.place.door.json {
        return json(&Why { why, description: &description });
    }
    say(why);
    Ok(())
}

/// Runs `worm show`.
pub(crate) fn show(args: &PathArgs) -> Outcome {
    let description = described(args)?;
    if args.place.door.json {
        json(&description)?;
    } else {
        print(&description);
    }
    match description.standing {
        Standing::Free | Standing::NotAClass | Standing::NoDirectory => {
            let message = format!("{}: nothing has this name", description.path);
            Err(Failure::new(Exit::NotFound, message))
        }
        Standing::Stray
        | Standing::Moving
        | Standing::Root
        | Standing::Class
        | Standing::Directory
        | Standing::IncompleteDirectory
        | Standing::Writing
        | Standing::Closing
        | Standing::Sealed
        | Standing::Appending
        | Standing::Expired
        | Standing::Incomplete => Ok(()),
    }
}

fn described(args: &PathArgs) -> Outcome<Description> {
    let (subject, path) = Subject::of_path(&args.path, &args.place)?;
    match subject.ask(Ask::Describe { path: path.clone() })? {
        Some(description) => Ok(description),
        None => {
            let (_, loaded, now) = subject.read()?;
            Ok(report::describe(&loaded.catalog, now, &path))
        }
    }
}

/// One line: why a change would be refused, and until when.
pub(crate) fn line(description: &Description) -> String {
    let Description { path, standing, class, entries, kept, .. } = description;
    let rule = class.as_ref().map(kept_for).unwrap_or_default();
    let entries = entries.unwrap_or_default();
    let said = match standing {
        Standing::Free if is_of_logs(description) => {
            format!("free: a log can be made here, which grows at its end and is {rule}")
        }
        Standing::Free => format!("free: a file can be made here, once, and is then {rule}"),
        Standing::NotAClass => {
            "free, but nothing can be made here: files live in classes".to_owned()
        }
        Standing::NoDirectory => "free, but its directory is not there".to_owned(),
        Standing::Stray => {
            "nobody recorded it: it is not served, and its name stays taken".to_owned()
        }
        Standing::Moving => "it is being made or removed at this moment".to_owned(),
        Standing::Root => {
            return "the root of the store: it holds the classes and does not change".to_owned();
        }
        Standing::Class => {
            format!(
                "a class: it cannot be changed, renamed or removed; each of its files is {rule}"
            )
        }
        Standing::Directory if entries > 0 => format!(
            "a directory with something in it ({entries}): it cannot be changed or removed until \
             it is empty, and never renamed"
        ),
        Standing::Directory => {
            "an empty directory: it can be changed and removed, but never renamed".to_owned()
        }
        Standing::IncompleteDirectory => {
            "the store keeps here what was never finished: nothing can be made or changed"
                .to_owned()
        }
        Standing::Writing => {
            "being written: only the descriptor that made it may change its bytes, and no path \
             removes it"
                .to_owned()
        }
        Standing::Closing => {
            "closed: the seal is on its way, nothing changes it any more".to_owned()
        }
        Standing::Sealed | Standing::Appending | Standing::Expired | Standing::Incomplete => {
            kept.as_ref().map(|kept| finished(description, kept)).unwrap_or_default()
        }
    };
    format!("{path}: {said}")
}

fn kept_for(class: &InClass) -> String {
    let mode = match class.mode {
        Mode::Compliance => "",
        Mode::Governance => ", or until the admin releases it",
    };
    let from = if class.append_only { "last record" } else { "seal" };
    format!("kept {} from its {from}{mode}", span(class.retention_seconds))
}

/// Whether the files of its class are logs.
fn is_of_logs(description: &Description) -> bool {
    description.class.as_ref().is_some_and(|class| class.append_only)
}

/// What keeps a finished file, and until when.
fn finished(description: &Description, kept: &Keeping) -> String {
    let sealed_at = moment(&kept.sealed_at);
    let begin = if description.standing == Standing::Incomplete {
        format!("never finished, given up {sealed_at}")
    } else if is_of_logs(description) {
        format!("a log, which takes bytes at its end only, last recorded {sealed_at}")
    } else {
        format!("sealed {sealed_at}")
    };
    let end = moment(&kept.retain_until);
    let is_over = kept.left_seconds <= 0;
    let alone = moment(&kept.own_end) == end;
    let group = if alone { String::new() } else { by_group(description, kept) };
    let mut parts = vec![match (is_over, kept.keep_last) {
        (false, _) => format!("kept until {end}{group}"),
        (true, true) => {
            let number = description.class.as_ref().map_or(1, |class| class.keep_last);
            format!(
                "kept beyond its end {end} as one of the newest whole backups of its directory \
                 (keep_last = {number})"
            )
        }
        (true, false) => format!("its end was {end}{group}"),
    }];
    parts.extend(kept.holds.iter().map(hold));
    if kept.governance && !is_over {
        parts.push("sealed in governance mode, so the admin may release it".to_owned());
    }
    parts.extend(kept.doubt.iter().map(|why| format!("kept while this is in doubt: {why}")));
    if description.standing == Standing::Expired && kept.doubt.is_none() {
        parts.push("nothing keeps it: it can be removed, and the store removes it soon".to_owned());
    }
    format!("{begin}, {}", parts.join("; "))
}

/// The group, by the file that gave it its name.
fn by_group(description: &Description, kept: &Keeping) -> String {
    match kept.group.first().filter(|main| **main != description.path) {
        Some(main) => format!(" by its group (that of {main})"),
        None => format!(" by its group ({} files that end together)", kept.group.len()),
    }
}

fn hold(hold: &HoldRow) -> String {
    let HoldRow { name, reason, by, since } = hold;
    format!("hold \"{name}\" by {by} since {}: \"{reason}\"", moment(since))
}

fn print(description: &Description) {
    let Description { path, class, file, kept, .. } = description;
    say(path);
    let row = |name: &str, value: String| say(format_args!("  {name:<9} {value}"));
    row("state", line(description).replacen(&format!("{path}: "), "", 1));
    if let Some(file) = file {
        row("size", format!("{} ({} bytes)", bytes(file.size), file.size));
        if let Some(sha256) = &file.sha256 {
            row("sha256", sha256.clone());
        }
        let modified = moment(&file.modified_at);
        row("owner", format!("uid {}, gid {}, mode {}", file.uid, file.gid, file.mode));
        row("modified", modified);
    }
    if let Some(class) = class {
        row("class", format!("{}: a file is {}", class.name, kept_for(class)));
    }
    let Some(kept) = kept else { return };
    let sealed = if is_of_logs(description) { "recorded" } else { "sealed" };
    row(sealed, moment(&kept.sealed_at));
    row("own end", moment(&kept.own_end));
    let left = time_left(kept.left_seconds);
    row("end", format!("{} ({left})", moment(&kept.retain_until)));
    for other in kept.group.iter().filter(|other| *other != path) {
        row("ends with", other.clone());
    }
    for held in &kept.holds {
        row("held", hold(held));
    }
}

/// Prints what stands after a change.
pub(crate) fn changed(description: &Description, as_json: bool) -> Outcome {
    if as_json {
        return json(description);
    }
    say(line(description));
    Ok(())
}
