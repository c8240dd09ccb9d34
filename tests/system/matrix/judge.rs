//! Says which answers are right.

use rustix::io::Errno;
use system_tests::matrix::Report;
use system_tests::matrix::Row;
use system_tests::matrix::State;
use system_tests::matrix::TABLE;
use system_tests::matrix::Theme;
use system_tests::matrix::look::NEW_NAMES;

use super::attack::User;
use super::backing::Kind;

/// Ways that must be tried on a sealed file, at the least, by each user: the documents say so.
const WAYS_MIN: usize = 350;

/// Everything that is not as it should be, a line each.
pub(crate) fn complaints(kind: Kind, state: State, user: User, reports: &[Report]) -> Vec<String> {
    let rows = TABLE.iter().flat_map(|(theme, rows)| rows.iter().map(move |row| (*theme, row)));
    let mut rows = rows.filter(|(theme, row)| row.applies(*theme, state, user == User::Root));
    let mut found = Vec::new();
    for report in reports {
        let (theme, row) = rows.next().expect("no more reports than rows");
        assert_eq!(row.what, report.what);
        let wrong = [wrong_answer(theme, row, state, user, report), changed(theme, state, report)];
        let what = &report.what;
        found.extend(
            wrong
                .into_iter()
                .flatten()
                .map(|w| format!("{kind:?} {state:?} {user:?}: {what}: {w}")),
        );
    }
    assert_eq!(rows.count(), 0, "every row has its report");
    if state == State::Sealed {
        assert!(reports.len() >= WAYS_MIN, "only {} ways", reports.len());
    }
    found
}

/// What has changed and must not.
fn changed(theme: Theme, state: State, report: &Report) -> Option<String> {
    let allowed: &[&str] = match (theme, state) {
        // Programs that write beside the file before they rename leave that behind.
        (Theme::Tools, State::Writing) => {
            &[NEW_NAMES, "directories", "mode", "owner", "mtime", "ctime", "atime"]
        }
        (Theme::Tools, _) => &[NEW_NAMES, "directories"],
        // Whoever may, sets what will be sealed.
        (Theme::Attributes, State::Writing) => &["mode", "owner", "mtime", "ctime", "atime"],
        _ => &[],
    };
    let wrong = report.changed.iter().filter(|what| !allowed.contains(&what.as_str()));
    let wrong: Vec<&str> = wrong.map(String::as_str).collect();
    (!wrong.is_empty()).then(|| format!("changed {}:\n{}", wrong.join(", "), report.details))
}

/// What was answered, if it is not among what is promised.
fn wrong_answer(
    theme: Theme,
    row: &Row,
    state: State,
    user: User,
    report: &Report,
) -> Option<String> {
    let mut right = row.answers.to_vec();
    if user == User::Owner {
        right.extend(row.to_owner);
        if matches!(state, State::Incomplete | State::Aborted) {
            // `.incomplete` is root's.
            right.push(Errno::ACCESS);
        }
    }
    if (theme, state) == (Theme::Xattrs, State::Closing) {
        // Whether an end can be moved is said when there is one.
        right.push(Errno::OPNOTSUPP);
    }
    if state == State::Viewed {
        right.push(Errno::ROFS);
        // Everything there is root's.
        right.extend((user == User::Owner).then_some(Errno::ACCESS));
    }
    let mut may_succeed = row.harmless.is_some();
    if state == State::Writing {
        right.push(Errno::BUSY);
        right.push(Errno::OPNOTSUPP);
        may_succeed |= matches!(theme, Theme::Attributes | Theme::Tools);
    }
    let answered = match report.errno {
        0 if may_succeed => return None,
        0 => "success".to_owned(),
        errno => {
            let errno = Errno::from_raw_os_error(errno);
            if right.contains(&errno) {
                return None;
            }
            format!("{errno:?}")
        }
    };
    Some(format!("{answered} instead of {right:?}"))
}
