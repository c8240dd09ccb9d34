//! The same bytes into a file of each class. One that fails is given up, and the others go on.

use std::io;
use std::io::Write;
use std::sync::Arc;

use super::Class;
use super::Draft;
use super::VaultError;
use super::draft::MODE;

/// One draft for each class, in the order of the classes; or why there is none any more.
#[derive(Debug)]
pub(crate) struct Tee {
    outlets: Vec<Result<Draft, VaultError>>,
}

impl Tee {
    /// Starts a file in each class, all under the first of `names` that is free in all of them,
    /// with the names of its companions.
    ///
    /// A class that cannot take a file has its error in its place. [`VaultError::NoFreeName`] when
    /// the names came to an end.
    pub(crate) fn create(
        classes: &[Arc<Class>],
        names: impl Iterator<Item = String>,
    ) -> Result<Self, VaultError> {
        let mut tried = 0;
        for name in names {
            tried += 1;
            if let Some(outlets) = create_all(classes, &name) {
                return Ok(Self { outlets });
            }
        }
        let path = classes.first().map(|class| class.path().to_owned()).unwrap_or_default();
        Err(VaultError::NoFreeName { path, tried })
    }

    /// From drafts that a test has made.
    #[cfg(test)]
    pub(super) fn of(drafts: Vec<Draft>) -> Self {
        Self { outlets: drafts.into_iter().map(Ok).collect() }
    }

    /// The name that all its files will have. `None` when all have failed.
    pub(crate) fn name(&self) -> Option<&str> {
        self.outlets.iter().flatten().map(Draft::name).next()
    }

    /// Whether the class in that place still has a file.
    pub(crate) fn holds(&self, place: usize) -> bool {
        self.outlets.get(place).is_some_and(Result::is_ok)
    }

    /// What became of each class.
    pub(crate) fn into_drafts(self) -> Vec<Result<Draft, VaultError>> {
        self.outlets
    }
}

/// Starts `name` in every class. `None`: it is taken in one of them, and nothing was started.
fn create_all(classes: &[Arc<Class>], name: &str) -> Option<Vec<Result<Draft, VaultError>>> {
    // Looked at first: what is started on the mount and then given up lies about for a day.
    let mut looks = Vec::with_capacity(classes.len());
    for class in classes {
        match class.is_taken_with_companions(name) {
            Ok(true) => return None,
            Ok(false) => looks.push(Ok(())),
            Err(error) => looks.push(Err(error)),
        }
    }
    let mut outlets = Vec::with_capacity(classes.len());
    for (class, look) in classes.iter().zip(looks) {
        match look.and_then(|()| Draft::create(class, name, MODE)) {
            Ok(Some(draft)) => outlets.push(Ok(draft)),
            // Somebody was quicker. The drafts so far end with this function.
            Ok(None) => return None,
            Err(error) => outlets.push(Err(error)),
        }
    }
    Some(outlets)
}

impl Write for Tee {
    /// Fails only when no file is left.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut left = 0_usize;
        for outlet in &mut self.outlets {
            let Ok(draft) = outlet else { continue };
            match draft.write_all(bytes) {
                Ok(()) => left += 1,
                Err(source) => *outlet = Err(VaultError::io("write", draft.path(), source)),
            }
        }
        if left == 0 {
            return Err(io::Error::other("every file that was written to has failed"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
