//! PURE: what it means that `psql` gave up, in words for the user.

use crate::error::Error;

/// What is known of a transaction whose `psql` gave up, from the `lines` that it said last. `sent` is
/// whether the `COMMIT` was on its way.
pub(crate) fn complaint(sent: bool, lines: &[String], otherwise: &str) -> Error {
    let has = |words: &str| lines.iter().any(|line| line.contains(words));
    let said = if lines.is_empty() { otherwise.to_owned() } else { lines.join("\n  ") };
    // Only the server's own word is good for it: psql may be gone while the server commits.
    if sent && !has("ERROR:") {
        return Error::Failed(format!(
            "psql ended during the COMMIT, and its answer is lost. Look at the database: it has \
             either all of the backup or nothing of it. It said:\n  {said}"
        ));
    }
    Error::Failed(format!(
        "psql stopped at an error, and the transaction was undone.{} It said:\n  {said}",
        advice(has)
    ))
}

/// What a person can do about the usual reasons.
fn advice(has: impl Fn(&str) -> bool) -> &'static str {
    if has("role \"") && has("does not exist") {
        " Create the role first (createuser), or let --globals make it, then try again."
    } else if has("extension \"") && has("is not available") {
        " Install the extension's package on the server, then try again."
    } else if has("max_locks_per_transaction") {
        " So many tables or large objects need more locks in one transaction than the server has: \
          ALTER SYSTEM SET max_locks_per_transaction = 1024 (or more), restart the server, then try \
          again."
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(sent: bool, lines: &[&str], words: &[&str]) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let said = complaint(sent, &lines, "broken pipe").to_string();
        assert!(words.iter().all(|words| said.contains(words)), "{said}");
    }

    #[test]
    fn undone_is_said_only_when_it_is_known() {
        let lost = "either all of the backup or nothing";
        says(true, &[], &[lost, "broken pipe"]);
        says(true, &["server closed the connection unexpectedly"], &[lost]);
        says(true, &["psql:<stdin>:9: FATAL:  terminating connection"], &[lost]);
        says(true, &["psql:<stdin>:9: ERROR:  duplicate key"], &["was undone", "duplicate key"]);
        says(false, &[], &["was undone", "broken pipe"]);
    }

    #[test]
    fn usual_reasons_come_with_advice() {
        says(false, &["ERROR:  role \"r\" does not exist"], &["Create the role first"]);
        says(false, &["ERROR:  extension \"e\" is not available"], &["Install the extension"]);
        let hint = "HINT:  You might need to increase max_locks_per_transaction.";
        let lines = ["ERROR:  out of shared memory", hint];
        says(false, &lines, &["ALTER SYSTEM SET max_locks_per_transaction", "restart the server"]);
    }
}
