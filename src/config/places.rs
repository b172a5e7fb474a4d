//! The folders that the daemon writes to: found or made once the configuration is known sound.
//!
//! `state_dir` is made if it is missing; where that fails, `./.victor` takes its place and a
//! warning says so. Nothing is created for a configuration with a fault.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::check::STATE_DIR_LOCAL;
use super::checked::CheckedConfig;

/// Makes the state folder, or falls back to the local one, and moves what lies in it.
///
/// # Errors
/// Neither the folder of the configuration nor the local one can be written to.
pub(super) fn settle(config: &mut CheckedConfig) -> Result<(), String> {
    let wanted = config.state_dir.clone();
    let mut state_dir = absolute(&wanted)?;
    if let Err(error) = make(&state_dir) {
        let local = absolute(Path::new(STATE_DIR_LOCAL))?;
        let message = format!(
            "the state folder {} cannot be used ({error})",
            wanted.display()
        );
        if local == state_dir {
            return Err(message);
        }
        make(&local).map_err(|error| {
            format!(
                "{message}, nor can {} in its place ({error})",
                local.display()
            )
        })?;
        config
            .warnings
            .push(format!("{message}: {} takes its place", local.display()));
        state_dir = local;
    }
    config.database.path = moved(&config.database.path, &wanted, &state_dir);
    config.admin.socket = absolute(&moved(&config.admin.socket, &wanted, &state_dir))?;
    let folder = config.admin.socket.parent();
    if folder.is_none_or(|folder| is_writable_folder(folder).is_err()) {
        config.admin.socket = state_dir.join("admin.sock");
    }
    config.state_dir = state_dir;
    Ok(())
}

/// `path`, if it lies in `from`, at the same place in `to`.
fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| {
        format!(
            "the path {} cannot be made absolute: {error}",
            path.display()
        )
    })
}

fn make(folder: &Path) -> io::Result<()> {
    // The state holds prompts and answers once history is kept: for the owner only.
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)?;
    is_writable_folder(folder)
}

fn is_writable_folder(folder: &Path) -> io::Result<()> {
    if !std::fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // Leaves no trace, unlike a trial file, and knows of read-only file systems.
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}
