//! A dump on its way from the database into its file, and what proves that it is whole.
//!
//! A plain dump is scanned as it flows. An archive is not SQL, so `pg_restore` reads it along the way
//! and writes it out as a restore would, and that is scanned: from the pipe for the custom format;
//! for a directory from the scratch directory, before it is packed into the file.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::manifest::Kind;
use crate::progress;
use crate::proof;
use crate::proof::Ending;
use crate::proof::Evidence;
use crate::proof::Flaw;
use crate::proof::Proven;
use crate::scratch;
use crate::scratch::Scratch;
use crate::shape::Shape;
use crate::source::Facts;
use crate::source::Source;
use crate::source::child::Running;
use crate::stream::pipeline;
use crate::stream::pipeline::Progress;
use crate::stream::pipeline::Reading;
use crate::stream::pipeline::StreamError;
use crate::stream::pipeline::Streamed;
use crate::stream::scan::Report;

/// After a child was ended, its stream must end in this time.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked how much has come into a scratch directory.
const LOOK: Duration = Duration::from_millis(500);
/// The name of an archive in its scratch directory, and in the file that it becomes.
const ARCHIVE: &str = "dump";
/// The pipe takes as much at once.
const TAR_BUFFER: usize = 64 * 1024;

/// Makes sure, before anything is made, that there is a place for what must be written on the way.
pub(crate) fn check(shape: &Shape) -> Result<(), Error> {
    let Some(root) = scratch_of(shape) else { return Ok(()) };
    let failed = |source| Error::Scratch { path: root.to_owned(), source };
    if shape.recipients.is_some() && !scratch::is_in_memory(root).map_err(failed)? {
        return Err(Error::ScratchOnDisk { path: root.to_owned() });
    }
    // Made and gone again: also what a killed run has left.
    Scratch::make(root).map(drop).map_err(failed)
}

fn scratch_of(shape: &Shape) -> Option<&Path> {
    match shape.kind {
        Kind::Plain | Kind::Custom => None,
        Kind::Directory => shape.scratch.as_deref(),
    }
}

/// One dump under way.
pub(crate) struct Carrier<'run, S> {
    pub(crate) source: &'run mut S,
    pub(crate) facts: &'run Facts,
    pub(crate) shape: &'run Arc<Shape>,
    /// How long nothing may move.
    pub(crate) patience: Duration,
    /// Show no progress, since others would write over it.
    pub(crate) quiet: bool,
    pub(crate) cancelled: &'run mut watch::Receiver<bool>,
}

/// A dump that is proven whole.
pub(crate) type Carried = Result<(Proven, Streamed), Error>;

/// What a stream gives back: its result, and where it led.
type Streaming<W> = JoinHandle<(Result<Streamed, StreamError>, W)>;

impl<S: Source> Carrier<'_, S> {
    /// Carries the dump into `sink`, and proves it. The sink comes back, unless its stream hangs.
    pub(crate) async fn carry<W: Write + Send + 'static>(
        mut self,
        sink: W,
    ) -> (Carried, Option<W>) {
        match self.shape.kind {
            Kind::Plain | Kind::Custom => self.piped(sink).await,
            Kind::Directory => match self.scratched().await {
                Ok(scratched) => self.packed(scratched, sink).await,
                Err(error) => (Err(error), Some(sink)),
            },
        }
    }

    /// A dump that comes through a pipe.
    async fn piped<W: Write + Send + 'static>(&mut self, sink: W) -> (Carried, Option<W>) {
        let (children, pipe, reading) = match self.start() {
            Ok(started) => started,
            Err(error) => return (Err(error), Some(sink)),
        };
        let progress = Arc::new(Progress::default());
        progress::follow(&progress);
        let streaming = start(pipe, reading, sink, self.shape, &progress);
        let (streamed, sink, mut children) =
            match self.streamed(streaming, &progress, children).await {
                Ok(streamed) => streamed,
                Err((error, sink)) => return (Err(error), sink),
            };
        let endings = match self.until(&progress, children.wait()).await {
            Ok(endings) => endings.map_err(failed("wait for pg_dump")),
            Err(stop) => return (Err(stop.end(children).await), Some(sink)),
        };
        let (endings, words) = match endings {
            Ok(endings) => (endings, children.last_words().await),
            Err(error) => return (Err(error), Some(sink)),
        };
        let (ending, words) = (endings[0], &words[..]);
        let evidence = Evidence {
            ending,
            bytes: streamed.raw.bytes,
            floor: self.shape.min_bytes,
            reading: endings.get(1).map(|ending| (*ending, words[1].as_str())),
            large_objects: self.facts.large_objects,
            report: &streamed.report,
        };
        let proven = self.prove(&evidence, &words[0]);
        (proven.map(|proven| (proven, streamed)), Some(sink))
    }

    /// Starts the dump, and for an archive who reads it.
    fn start(&mut self) -> Result<(Children, PipeReader, Reading), Error> {
        let mut dump = self.source.dump(self.facts, self.shape, None)?;
        let pipe = dump.take_stdout().map_err(failed("read from pg_dump"))?;
        if self.shape.kind == Kind::Plain {
            return Ok((Children(vec![dump]), pipe, Reading::Sql));
        }
        let mut restorer = self.source.read(None)?;
        let to = restorer.take_stdin().map_err(failed("write to pg_restore"))?;
        let from = restorer.take_stdout().map_err(failed("read from pg_restore"))?;
        Ok((Children(vec![dump, restorer]), pipe, Reading::Archive { to, from }))
    }

    /// A dump into files, proven.
    async fn scratched(&mut self) -> Result<Scratched, Error> {
        let root = scratch_of(self.shape).unwrap_or(Path::new("")).to_owned();
        let made = Scratch::make(&root);
        let scratch = made.map_err(|source| Error::Scratch { path: root, source })?;
        let archive = scratch.path().join(ARCHIVE);
        let progress = Progress::default();
        let dump = self.source.dump(self.facts, self.shape, Some(&archive))?;
        let counting = async {
            loop {
                progress.raw.store(scratch.bytes(), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        };
        let (ending, words) = self.ended(dump, &progress, counting, "wait for pg_dump").await?;
        if ending != Ending::Status(0) {
            return Err(Error::NotWhole { flaw: Flaw::Ended(ending.to_string()), words });
        }

        let mut restorer = self.source.read(Some(&archive))?;
        let sql = restorer.take_stdout().map_err(failed("read from pg_restore"))?;
        let progress = Arc::new(Progress::default());
        progress::follow(&progress);
        let scanning = tokio::task::spawn_blocking({
            let progress = Arc::clone(&progress);
            move || pipeline::scan(sql, &progress.raw)
        });
        let waiting = std::future::pending::<Infallible>();
        let (read, read_words) =
            self.ended(restorer, &progress, waiting, "wait for pg_restore").await?;
        // Its output has ended with it.
        let report = scanning.await.map_err(|panic| Error::Internal(panic.to_string()))?;
        let report = report.map_err(failed("read from pg_restore"))?;
        let evidence = Evidence {
            ending,
            bytes: scratch.bytes(),
            floor: self.shape.min_bytes,
            reading: Some((read, &read_words)),
            large_objects: self.facts.large_objects,
            report: &report,
        };
        let proven = self.prove(&evidence, &words)?;
        Ok(Scratched { scratch, report, proven })
    }

    /// How a child ended that nothing but its end is awaited of, and its last words.
    async fn ended(
        &mut self,
        mut child: Running,
        progress: &Progress,
        meanwhile: impl Future<Output = Infallible>,
        doing: &'static str,
    ) -> Result<(Ending, String), Error> {
        let work = async {
            tokio::select! {
                ending = child.wait() => ending,
                never = meanwhile => match never {},
            }
        };
        match self.until(progress, work).await {
            Ok(ending) => Ok((ending.map_err(failed(doing))?, child.last_words().await)),
            Err(stop) => Err(stop.end(Children(vec![child])).await),
        }
    }

    /// Files that are proven, packed into one.
    async fn packed<W: Write + Send + 'static>(
        &mut self,
        scratched: Scratched,
        sink: W,
    ) -> (Carried, Option<W>) {
        let Scratched { scratch, report, proven } = scratched;
        let (pipe, tar) = match io::pipe() {
            Ok(ends) => ends,
            Err(source) => return (Err(failed("pack the files")(source)), Some(sink)),
        };
        let archive = scratch.path().join(ARCHIVE);
        let packing = tokio::task::spawn_blocking(move || pack(&archive, tar));
        let progress = Arc::new(Progress::default());
        progress::follow(&progress);
        let streaming = start(pipe, Reading::Nothing, sink, self.shape, &progress);
        let streamed = self.streamed(streaming, &progress, Children(Vec::new())).await;
        let packed = packing.await.map_err(|panic| Error::Internal(panic.to_string()));
        let packed = packed.and_then(|packed| packed.map_err(failed("pack the files")));
        match (streamed, packed) {
            // A stream that ended early also ends the packing.
            (Err((error, sink)), _) => (Err(error), sink),
            (Ok((_, sink, _)), Err(error)) => (Err(error), Some(sink)),
            (Ok((streamed, sink, _)), Ok(())) => {
                (Ok((proven, Streamed { report, ..streamed })), Some(sink))
            }
        }
    }

    /// Waits for a stream to end well. If it does not, the children are ended.
    async fn streamed<W: Send + 'static>(
        &mut self,
        mut streaming: Streaming<W>,
        progress: &Progress,
        mut children: Children,
    ) -> Result<(Streamed, W, Children), (Error, Option<W>)> {
        match self.until(progress, &mut streaming).await {
            Ok(Ok((Ok(streamed), sink))) => Ok((streamed, sink, children)),
            Ok(Ok((Err(error), sink))) => {
                children.stop().await;
                Err((stream_failed(error), Some(sink)))
            }
            Ok(Err(panic)) => {
                children.stop().await;
                Err((Error::Internal(panic.to_string()), None))
            }
            Err(stop) => {
                progress.stop.store(true, Ordering::Relaxed);
                let error = stop.end(children).await;
                // If it hangs, the sink ends with this process.
                let ended = tokio::time::timeout(GRACE, streaming).await;
                Err((error, ended.ok().and_then(Result::ok).map(|(_, sink)| sink)))
            }
        }
    }

    /// Does the work, unless it is to stop before.
    async fn until<T>(
        &mut self,
        progress: &Progress,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        tokio::select! {
            done = work => Ok(done),
            () = stopped(self.cancelled) => Err(Stop::Cancelled),
            () = progress::stalled(progress, self.patience) => Err(Stop::Stalled(self.patience)),
            never = progress::show(progress), if !self.quiet => match never {},
        }
    }

    fn prove(&self, evidence: &Evidence<'_>, words: &str) -> Result<Proven, Error> {
        match proof::prove(evidence, &self.facts.tables) {
            Ok(proven) => {
                if !words.is_empty() {
                    tracing::warn!(words, "pg_dump had something to say");
                }
                Ok(proven)
            }
            Err(flaw) => Err(Error::NotWhole { flaw, words: words.to_owned() }),
        }
    }
}

/// A dump in files, and what proved it.
struct Scratched {
    scratch: Scratch,
    report: Report,
    proven: Proven,
}

/// The dump, and who reads it.
struct Children(Vec<Running>);

impl Children {
    async fn wait(&mut self) -> io::Result<Vec<Ending>> {
        let mut endings = Vec::with_capacity(self.0.len());
        for child in &mut self.0 {
            endings.push(child.wait().await?);
        }
        Ok(endings)
    }

    async fn stop(&mut self) {
        for child in &mut self.0 {
            child.stop().await;
        }
    }

    /// What each of them said last.
    async fn last_words(self) -> Vec<String> {
        let mut words = Vec::with_capacity(self.0.len());
        for child in self.0 {
            words.push(child.last_words().await);
        }
        words
    }
}

/// Why a run is ended before its own end.
enum Stop {
    Cancelled,
    /// Nothing had moved for so long.
    Stalled(Duration),
}

impl Stop {
    /// Ends the children, and says what to tell.
    async fn end(self, mut children: Children) -> Error {
        children.stop().await;
        match self {
            Self::Cancelled => Error::Cancelled,
            Self::Stalled(patience) => {
                let mut words = children.last_words().await;
                words.retain(|words| !words.is_empty());
                Error::Stalled { patience, words: words.join("; ") }
            }
        }
    }
}

/// Waits for the word to stop. If nobody can give it any more, for ever.
pub(crate) async fn stopped(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Starts the stream on threads of its own. It gives the sink back whatever happens.
fn start<W: Write + Send + 'static>(
    pipe: PipeReader,
    reading: Reading,
    mut sink: W,
    shape: &Arc<Shape>,
    progress: &Arc<Progress>,
) -> Streaming<W> {
    let (shape, progress) = (Arc::clone(shape), Arc::clone(progress));
    tokio::task::spawn_blocking(move || {
        let result = pipeline::run(pipe, reading, &mut sink, &shape, &progress);
        (result, sink)
    })
}

/// Writes the files of an archive as one tar file: their names and bytes, and nothing that differs
/// from run to run.
fn pack(archive: &Path, tar: PipeWriter) -> io::Result<()> {
    let mut builder = tar::Builder::new(BufWriter::with_capacity(TAR_BUFFER, tar));
    builder.mode(tar::HeaderMode::Deterministic);
    let mut names: Vec<_> = std::fs::read_dir(archive)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let mut file = File::open(archive.join(&name))?;
        builder.append_file(Path::new(ARCHIVE).join(&name), &mut file)?;
    }
    builder.into_inner()?.flush()
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.to_owned();
    move |source| Error::Stream { doing, source }
}

fn stream_failed(error: StreamError) -> Error {
    let doing = error.to_string();
    let (StreamError::Read(source) | StreamError::Compress(source) | StreamError::Write(source)) =
        error;
    Error::Stream { doing, source }
}
