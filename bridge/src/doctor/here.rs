//! What is on this machine: files, their modes, databases, disk.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use causeway_groups::vault::VaultError;
use causeway_store::{backup, small_file::ReadError};

use super::{Check, key};
use crate::{
    app::{self, RunError},
    config::Config,
    init::{
        ADMIN_TOKEN, BRIDGE_TOKEN, InitError, REGISTRATION_TOKEN, RELAY_TOKEN, STORAGE_KEY,
        check_key, read_token,
    },
    registration::{AGENT, Registration, RegistrationError},
};

/// Below this much free disk, bytes, somebody should look after it.
const LITTLE: u64 = 1 << 30;
/// Below this much, nothing new is taken in soon.
const TOO_LITTLE: u64 = 64 << 20;

/// The registration, where it can be used.
pub(super) fn registration(
    file: &Path,
    config: &Config,
    show: &mut dyn FnMut(Check),
) -> Option<Registration> {
    let name = "registration";
    let path = &config.appservice.registration;
    let made = |how: &str| {
        format!(
            "`causeway registration{how} --config {}` writes it anew{}; copy it to the homeserver \
             then, and restart that",
            file.display(),
            if how.is_empty() { " with the same tokens" } else { "" }
        )
    };
    let again = made("");
    let read = config.registration();
    let registration = match read {
        Ok(registration) => registration,
        Err(RegistrationError::Unreadable(path, error)) => {
            let fix = error.remedy().unwrap_or("`causeway init` makes one");
            let found = RegistrationError::Unreadable(path, error).to_string();
            show(Check::failed(name, found, fix));
            return None;
        }
        Err(error @ RegistrationError::Malformed(..)) => {
            let fix =
                format!("put back the one that the homeserver has; or {}", made(" --new-tokens"));
            show(Check::failed(name, error.to_string(), fix));
            return None;
        }
        Err(error @ RegistrationError::NotCovered(..)) => {
            let right = key(file, "homeserver.server_name", "WHAT.FOLLOWS.THE.COLON");
            let fix = format!("where the name is wrong, {right}; where it is right, {again}");
            show(Check::failed(name, error.to_string(), fix));
            return None;
        }
    };
    if registration.url != config.appservice.address {
        let found = format!(
            "{} says `url: {}`, and appservice.address is {}",
            path.display(),
            registration.url,
            config.appservice.address
        );
        show(Check::failed(name, found, again));
    } else if registration.rate_limited {
        let found = format!("{} has the homeserver limit our rate", path.display());
        let fix = "write `rate_limited: false` there and in the homeserver's copy, and restart it";
        show(Check::warning(name, found, fix));
    } else if !registration.has_agent() {
        let found = format!("{} does not claim the name {AGENT}", path.display());
        let fix = format!("to share groups with other servers, {again}");
        show(Check::warning(name, found, fix));
    } else {
        show(Check::ok(name, path.display().to_string()));
    }
    Some(registration)
}

/// The folder, the keys and tokens in it, and the disk that it is on.
pub(super) fn files(config: &Config, show: &mut dyn FnMut(Check)) {
    let folder = &config.data_dir.0;
    show(data_dir(folder));
    for name in [STORAGE_KEY, ADMIN_TOKEN, REGISTRATION_TOKEN, BRIDGE_TOKEN] {
        show(secret(config, name));
    }
    show(relay_token(config));
    show(disk(folder));
}

/// Without it everything works but what concerns other servers.
fn relay_token(config: &Config) -> Check {
    let check = secret(config, RELAY_TOKEN);
    if config.data_file(RELAY_TOKEN).exists() {
        return check;
    }
    let found = "it is not there: no other server is spoken with";
    let fix =
        "to share groups with other servers: `causeway init` makes it, and leaves everything else";
    Check::warning(RELAY_TOKEN, found.to_owned(), fix)
}

fn data_dir(folder: &Path) -> Check {
    let name = "data folder";
    let at = folder.display();
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = "`causeway init` makes it, or change `data_dir` in the configuration";
            return Check::failed(name, format!("{at} is not there"), fix);
        }
        Err(error) => {
            return unread(name, folder, &error.into());
        }
        Ok(is) if !is.is_dir() => {
            return Check::failed(
                name,
                format!("{at} is no folder"),
                "name a folder in `data_dir`",
            );
        }
        Ok(is) if is.permissions().mode() & 0o077 != 0 => {
            let found = format!("others may enter {at} (mode {:o})", is.mode() & 0o777);
            return Check::warning(name, found, format!("chmod 700 {at}"));
        }
        Ok(_) => {}
    }
    // Rights, quotas and mounts all show in whether it works.
    match tempfile_in(folder) {
        Ok(()) => Check::ok(name, at.to_string()),
        Err(error) => {
            let fix = format!("chown -R the user that Causeway runs as: {at}; or free the disk");
            Check::failed(name, format!("nothing can be written in {at}: {error}"), fix)
        }
    }
}

fn tempfile_in(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let made = fs::File::options().write(true).create_new(true).open(&path);
    made.and_then(|mut file| io::Write::write_all(&mut file, b"x").and_then(|()| file.sync_all()))
        .and_then(|()| fs::remove_file(&path))
        .inspect_err(|_| drop(fs::remove_file(&path)))
}

fn secret(config: &Config, file: &'static str) -> Check {
    let path = config.data_file(file);
    let at = path.display();
    let is_key = file == STORAGE_KEY;
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_key => {
            let fix = "put it back from where you keep it; without it bridge.db cannot be read. \
                       Only where nothing was ever kept: `causeway init` makes a new one";
            return Check::failed(file, format!("{at} is not there"), fix);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = "`causeway init` makes it, and leaves everything else";
            return Check::failed(file, format!("{at} is not there"), fix);
        }
        Err(error) => return unread(file, &path, &error.into()),
    };
    let usable = if is_key { check_key(&path) } else { read_token(&path).map(drop) };
    match usable {
        Ok(()) => {}
        Err(InitError::Unread(path, error)) => return unread(file, &path, &error),
        Err(error) => return Check::failed(file, error.to_string(), "put the right file back"),
    }
    if meta.permissions().mode() & 0o077 != 0 {
        let found = format!("others may read {at} (mode {:o})", meta.mode() & 0o777);
        return Check::warning(file, found, format!("chmod 600 {at}"));
    }
    Check::ok(file, at.to_string())
}

fn unread(name: &'static str, path: &Path, error: &ReadError) -> Check {
    let fix = error.remedy().unwrap_or("put it back");
    Check::failed(name, format!("{}: {error}", path.display()), fix)
}

fn disk(folder: &Path) -> Check {
    let name = "disk";
    let at = folder.display();
    match rustix::fs::statvfs(folder) {
        Err(error) => Check::skipped(name, format!("{at}: {error}")),
        Ok(is) => {
            let free = is.f_bavail.saturating_mul(is.f_frsize);
            let found = format!("{} MiB free where {at} is", free >> 20);
            let fix = "free some, or move `data_dir`: without room no message is taken in";
            if free < TOO_LITTLE {
                Check::failed(name, found, fix)
            } else if free < LITTLE {
                Check::warning(name, found, fix)
            } else {
                Check::ok(name, found)
            }
        }
    }
}

/// Each database that is there: its size, and whether it is whole.
pub(super) async fn databases(config: &Config, show: &mut dyn FnMut(Check)) {
    for name in ["bridge.db", "server.db"] {
        let path = config.data_file(name);
        let at = path.display();
        let check = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Check::skipped(name, format!("{at} is not there yet; the first run makes it"))
            }
            Err(error) => unread(name, &path, &error.into()),
            Ok(meta) => match backup::check(&path).await {
                Ok(()) => {
                    let found = format!("{at} is whole, {} KiB", meta.len() >> 10);
                    match app::check_key(config).await {
                        Err(RunError::Vault(of, error @ VaultError::WrongKey(_))) if of == path => {
                            let fix = "put back the storage.key that it was made with, from where \
                                       you keep it; or the database that belongs to that key: \
                                       `causeway backup restore FOLDER --move-aside`";
                            Check::failed(name, format!("{at} is whole, but {error}"), fix)
                        }
                        // Of any other fault of the key its own file has been told.
                        _ => Check::ok(name, found),
                    }
                }
                Err(error) => {
                    let fix = "stop Causeway, keep that file, and put a backup back: `causeway \
                               backup restore FOLDER --move-aside`";
                    Check::failed(name, error.to_string(), fix)
                }
            },
        };
        show(check);
    }
}
