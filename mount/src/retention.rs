//! `worm release` and `worm extend`: a retention ended early, or lengthened.

use crate::cli::admin::ExtendArgs;
use crate::cli::admin::ReleaseArgs;
use crate::control::Ask;
use crate::control::Longer;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::subject::Subject;
use crate::why;
use crate::words::milliseconds;

/// Runs `worm release`.
pub(crate) fn release(args: &ReleaseArgs) -> Outcome {
    let (subject, path) = Subject::of_path(&args.file, &args.place)?;
    let ask = Ask::Release { path, reason: args.reason.clone() };
    why::changed(&subject.demand(ask)?, args.place.door.json)
}

/// Runs `worm extend`.
pub(crate) fn extend(args: &ExtendArgs) -> Outcome {
    let (subject, path) = Subject::of_path(&args.file, &args.place)?;
    let to = match (args.until, args.by) {
        (Some(until), _) => Longer::UntilMs(until.as_millisecond()),
        (None, Some(by)) => Longer::ByMs(milliseconds(by)),
        (None, None) => return Err(Failure::new(Exit::Usage, "give --until or --by")),
    };
    let ask = Ask::Extend { path, to, reason: args.reason.clone() };
    why::changed(&subject.demand(ask)?, args.place.door.json)
}
