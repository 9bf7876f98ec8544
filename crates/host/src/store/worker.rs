//! The thread that has the connection, and the handle to it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::open::{self, Check, StoreOpenError};
use super::{StoreError, Transaction};

/// Jobs that may wait. Each is a transaction; there are a few a second.
const JOBS_MAX: usize = 256;

/// How long a job may take, those before it included.
const ANSWER_BOUND: Duration = Duration::from_secs(30);

enum Job {
    Work(Box<dyn FnOnce(&mut Connection) + Send>),
    Stop,
}

/// Leads to the thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What a look at the whole database found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckReport {
    /// Nothing when it is sound.
    pub(crate) problems: Vec<String>,
    pub(crate) bytes: u64,
}

impl Store {
    /// Opens the database and starts its thread.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreOpenError> {
        let mut connection = open::open(path)?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        let thread = Builder::new().name("store".to_owned()).spawn(move || {
            while let Some(Job::Work(work)) = waiting.blocking_recv() {
                work(&mut connection);
            }
        });
        let thread = thread.map_err(|source| StoreOpenError::Make {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            jobs,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Runs a transaction and gives what came of it. Once accepted it is carried out, also when nobody waits any more.
    ///
    /// # Errors
    /// Whatever the work says, after a rollback; [`StoreError::Busy`] at once when too much is waiting.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.change(work, |result| result).await
    }

    /// The same, and applies what came of it in the store's own thread, right after the commit: in the order in which
    /// changes become durable, and whether or not anybody still waits.
    pub(crate) async fn change<T, U, F, A>(&self, work: F, apply: A) -> Result<U, StoreError>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(T) -> U + Send + 'static,
    {
        self.ask(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(apply(result))
        })
        .await
    }

    /// The same for the start of the daemon, where nothing else is to be done meanwhile.
    pub(crate) fn run_blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = std::sync::mpsc::channel();
        let job = Job::Work(Box::new(move |connection| {
            let result = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            let result = result.map_err(StoreError::from).and_then(|transaction| {
                let result = work(&transaction)?;
                transaction.commit()?;
                Ok(result)
            });
            drop(reply.send(result));
        }));
        self.jobs.try_send(job).map_err(|_| StoreError::Busy)?;
        answer
            .recv_timeout(ANSWER_BOUND)
            .unwrap_or(Err(StoreError::Silent(ANSWER_BOUND)))
    }

    /// Looks at the whole database. The bigger it is the longer it takes; everything else waits.
    pub(crate) async fn check(&self) -> Result<CheckReport, StoreError> {
        self.ask(move |connection| {
            let problems = open::check(connection, Check::Whole)?;
            let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
            let bytes = connection.query_row(size, [], |row| row.get::<_, i64>(0))?;
            Ok(CheckReport {
                problems,
                bytes: u64::try_from(bytes).unwrap_or(0),
            })
        })
        .await
    }

    async fn ask<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Work(Box::new(move |connection| drop(reply.send(work(connection)))));
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        match timeout(ANSWER_BOUND, answer).await {
            Err(_) => Err(StoreError::Silent(ANSWER_BOUND)),
            Ok(answer) => answer.unwrap_or(Err(StoreError::Closed)),
        }
    }

    /// Does what is waiting, closes the database and ends the thread. Nothing can be asked afterwards.
    pub(crate) async fn close(&self) {
        if self.jobs.send(Job::Stop).await.is_err() {
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join().is_ok())
                .await
                .is_err()
        {
            tracing::error!("the database's thread has ended in disorder");
        }
    }
}
