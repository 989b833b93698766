//! The home folder: `client.db`, its `storage.key`, and `tail.lock`.
//!
//! Several commands may have one home open; SQLite orders their writes, and nothing is remembered
//! between two transactions that another process could have changed.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use causeway_store::{Db, Lock, OpenCause, OpenError, Options};

use super::{exit::Failure, history::History};
use crate::{
    SCHEMA,
    machine::AddedBy,
    sdk::{Client, OpenClientError},
    vault::{Vault, VaultError},
};

/// Where the keys and messages of one device are.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    server: Option<String>,
    /// Who may add this account, whatever is set in the home.
    added_by: Option<AddedBy>,
}

/// What a home holds, opened.
pub(super) struct Opened {
    /// The database.
    pub(super) db: Db,
    /// Its vault.
    pub(super) vault: Vault,
}

impl Home {
    /// The folder that was asked for, or the usual one; nothing is made yet.
    ///
    /// # Errors
    /// There is no usual one, because `$HOME` is not set.
    pub(super) fn new(
        dir: Option<PathBuf>,
        server: Option<String>,
        added_by: Option<AddedBy>,
    ) -> Result<Self, Failure> {
        let usual = || {
            let data =
                env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
            data.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/share")))
                .map(|data| data.join("causeway"))
        };
        let dir = dir.or_else(usual).ok_or_else(|| {
            Failure::usage("there is no home folder: $HOME is not set")
                .next("Name one with --home DIR.")
        })?;
        Ok(Self { dir, server, added_by })
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server named on the command line.
    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Opens the database and its vault; makes them, and the folder, if they are not there.
    ///
    /// # Errors
    /// Said to a person: they cannot be opened.
    pub(super) async fn open(&self) -> Result<Opened, Failure> {
        make_folder(&self.dir).map_err(|e| {
            Failure::failed(format!("cannot make the folder {}: {e}", self.dir.display()))
                .next("Name another with --home DIR.")
        })?;
        let (path, key_file) = (self.dir.join("client.db"), self.dir.join("storage.key"));
        Vault::check(&path, &key_file).await.map_err(|e| shut(&e))?;
        let schemas = [SCHEMA];
        let db = Db::open(Options { path, lock: Lock::Shared, schemas: &schemas })
            .await
            .map_err(|e| not_opened(&e))?;
        let vault = Vault::open(&db, &key_file).await.map_err(|e| shut(&e))?;
        Ok(Opened { db, vault })
    }

    /// The client that is logged in here.
    ///
    /// # Errors
    /// Nobody is, or the home cannot be opened.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        if !self.has_database() {
            return Err(self.nobody());
        }
        let Opened { db, vault } = self.open().await?;
        match Client::open(db, vault, self.server(), Arc::new(History), super::now).await {
            Ok(client) => Ok(match self.added_by {
                Some(added_by) => client.added_by_these(added_by),
                None => client,
            }),
            Err(OpenClientError::NotLoggedIn) => Err(self.nobody()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is a client's database, so that looking for one does not make one.
    pub(super) fn has_database(&self) -> bool {
        self.dir.join("client.db").exists()
    }

    /// Nobody is logged in here, and what to do about it.
    pub(super) fn nobody(&self) -> Failure {
        Failure::not_logged_in(format!("nobody is logged in at {}", self.dir.display())).next(
            "Make an account with `causeway-client register NAME --server URL`, or name another \
             folder with --home.",
        )
    }
}

fn make_folder(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn not_opened(error: &OpenError) -> Failure {
    let failure = Failure::failed(error);
    match &error.cause {
        OpenCause::Newer(..) => failure.next("Use the newer causeway-client that made it."),
        OpenCause::Damaged(_) => failure.next("Restore the folder from a backup."),
        OpenCause::Held(..) => failure.next("End it first; nothing was changed."),
        OpenCause::Restoring(_) => {
            failure.next("Run `backup restore` again: it goes on from there.")
        }
        // Its own words say what to do.
        OpenCause::Missing(_) => failure,
        OpenCause::Altered(..) => failure.next("Use the causeway-client that made it."),
        OpenCause::OldSqlite(_) => failure.next("Use a build with a newer one."),
        OpenCause::Io(_) | OpenCause::Sqlite(_) => {
            failure.next("Is the folder yours to write to, and is there room on its disk?")
        }
    }
}

fn shut(error: &VaultError) -> Failure {
    let failure = Failure::failed(error);
    match error {
        VaultError::MissingKey(_) | VaultError::WrongKey(_) | VaultError::KeyLength(..) => {
            failure.next("Put back the storage.key that belongs to this home; nothing was changed.")
        }
        VaultError::KeyFile(..) | VaultError::Entropy(_) | VaultError::Store(_) => {
            failure.next("Is the folder yours to read, and is there room on its disk?")
        }
        VaultError::Altered(..) => failure.next("Restore the folder from a backup."),
    }
}
