//! Runs a command of the user's.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::process::Command;

/// A hook that takes longer is ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// So much of what it said is told when it fails.
const WORDS_MAX: usize = 500;

/// Runs `command` by the shell. It gets these variables and `PATH` and `HOME`, and no secret.
pub(super) async fn run(command: &str, variables: &[(&str, String)]) -> Result<(), String> {
    run_within(PATIENCE, command, variables).await
}

async fn run_within(
    patience: Duration,
    command: &str,
    variables: &[(&str, String)],
) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env_clear();
    let kept = ["PATH", "HOME"].into_iter();
    shell.envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?))));
    shell.envs(variables.iter().map(|(name, value)| (*name, value)));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that what it starts can be ended with it.
    shell.process_group(0).kill_on_drop(true);
    let child = shell.spawn().map_err(|error| format!("it could not be started: {error}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let ended = tokio::time::timeout(patience, child.wait_with_output()).await;
    let Ok(ended) = ended else {
        if let Some(group) = group
            && let Err(errno) = rustix::process::kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%errno, "a hook that took too long ended by itself");
        }
        return Err(format!("it took longer than {} s and was ended", patience.as_secs()));
    };
    let output = ended.map_err(|error| format!("it could not be waited for: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    let words = &words[words.floor_char_boundary(words.len().saturating_sub(WORDS_MAX))..];
    Err(format!("it ended with {}: {}", output.status, words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hook_gets_what_it_needs_and_its_end_is_told() {
        let variables = [("WORM_CLASS", "hourly; exit 9".to_owned())];
        let check = "[ \"$WORM_CLASS\" = 'hourly; exit 9' ] && [ -z \"$CARGO_PKG_NAME\" ]";
        run(check, &variables).await.unwrap();
        let error = run("echo no disk >&2; exit 3", &[]).await.unwrap_err();
        assert!(error.contains("exit status: 3") && error.contains("no disk"), "{error}");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_ended_with_what_it_started() {
        let error = run_within(Duration::from_millis(50), "sleep 1000 & wait", &[]).await;
        assert!(error.unwrap_err().contains("ended"));
    }
}
