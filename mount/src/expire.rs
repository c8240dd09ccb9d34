//! `worm expire`: what is over, and removing it now.

use worm_fs::report;
use worm_fs::report::ExpiryPlan;
use worm_fs::report::GroupRow;
use worm_fs::report::Keeper;
use worm_fs::report::KeptRow;

use crate::cli::admin::ExpireArgs;
use crate::control::Ask;
use crate::control::Expired;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::subject::Subject;
use crate::words::bytes;
use crate::words::count;
use crate::words::json;
use crate::words::moment;

/// Runs `worm expire`.
pub(crate) fn run(args: &ExpireArgs) -> Outcome {
    let subject = Subject::of_place(&args.place)?;
    if !args.dry_run {
        return expire(&subject, args.place.door.json);
    }
    let plan = match subject.ask(Ask::Expiry)? {
        Some(plan) => plan,
        None => {
            let (_, loaded, now) = subject.read()?;
            report::expiry(&loaded.catalog, now, |_| None)
        }
    };
    if args.place.door.json {
        return json(&plan);
    }
    print(&plan);
    Ok(())
}

fn expire(subject: &Subject, as_json: bool) -> Outcome {
    let mut all = 0;
    loop {
        let Expired { removed, more } = subject.demand(Ask::Expire)?;
        all += removed;
        if more {
            continue;
        }
        if as_json {
            return json(&serde_json::json!({ "removed": all }));
        }
        say(format_args!("{} removed", count(all, "file")));
        return Ok(());
    }
}

fn print(plan: &ExpiryPlan) {
    let ExpiryPlan { due, due_count, kept, kept_count, next_end } = plan;
    say(match due_count {
        0 => "nothing is over".to_owned(),
        n => format!("over, and removed at the daemon's next round ({}):", count(*n, "group")),
    });
    for group in due {
        say(format_args!("  {}", group_words(group)));
    }
    if due.len() < *due_count {
        say(format_args!("  ... and {} more", due_count - due.len()));
    }
    if *kept_count > 0 {
        say(format_args!("kept beyond an end ({}):", count(*kept_count, "group")));
    }
    for KeptRow { group, by } in kept {
        let by: Vec<String> = by.iter().map(|keeper| keeper_words(keeper, group)).collect();
        say(format_args!("  {}; kept by {}", group_words(group), by.join(" and ")));
    }
    if kept.len() < *kept_count {
        say(format_args!("  ... and {} more", kept_count - kept.len()));
    }
    if let Some(next_end) = next_end {
        say(format_args!("the next end is {}", moment(next_end)));
    }
}

fn group_words(group: &GroupRow) -> String {
    let GroupRow { files, bytes: length, end } = group;
    let main = files.first().map_or("", String::as_str);
    let others = match files.len().saturating_sub(1) {
        0 => String::new(),
        n => format!(" and {}", count(n, "sidecar")),
    };
    format!("{main}{others}, {}, end {}", bytes(*length), moment(end))
}

fn keeper_words(keeper: &Keeper, group: &GroupRow) -> String {
    match keeper {
        Keeper::Hold { name } => format!("hold \"{name}\""),
        Keeper::KeepLast { keep_last } => {
            format!("keep_last = {keep_last}, as one of the newest whole backups of its directory")
        }
        Keeper::Group => format!("its group until {}", moment(&group.end)),
        Keeper::Doubt { why } => format!("a doubt ({why})"),
    }
}
