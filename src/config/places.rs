//! The folders that the daemon writes to: found or made once the configuration is known sound.
//!
//! `state_dir` is made if it is missing; where that fails, `./.victor` takes its place and a
//! warning says so. Nothing is created for a configuration with a fault.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::check::SOCKET;
use super::checked::CheckedConfig;

/// The admin socket in the state folder.
const FALLBACK: &str = "admin.sock";

/// Makes the state folder, or falls back to the local one, and moves what lies in it.
///
/// # Errors
/// Neither the folder of the configuration nor `local` can be written to.
pub(super) fn settle(config: &mut CheckedConfig, local: &Path) -> Result<(), String> {
    let wanted = config.state_dir.clone();
    let mut state_dir = absolute(&wanted)?;
    if let Err(error) = make(&state_dir) {
        let local = absolute(local)?;
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
        let fallback = state_dir.join(FALLBACK);
        // Its place by default is only there if systemd made it: nothing to wonder about.
        if config.admin.socket != Path::new(SOCKET) {
            config.warnings.push(format!(
                "admin.socket: the folder of {} cannot be written to: {} takes its place",
                config.admin.socket.display(),
                fallback.display()
            ));
        }
        config.admin.socket = fallback;
    }
    config.state_dir = state_dir;
    Ok(())
}

/// Where [`settle`] may have put the admin socket, the likeliest first. Nothing is made, and what
/// cannot be used by us may have been by the daemon, so this is a list.
pub(super) fn sockets(state_dir: &Path, socket: &Path, local: &Path) -> Vec<PathBuf> {
    let mut places = vec![socket.to_owned(), state_dir.join(FALLBACK)];
    // A daemon makes its state folder: where there is none of ours, it took the local one.
    if is_writable_folder(state_dir).is_err() {
        places.push(moved(socket, state_dir, local));
        places.push(local.join(FALLBACK));
    }
    let mut unique: Vec<PathBuf> = Vec::new();
    for place in places {
        let place = absolute(&place).unwrap_or(place);
        if !unique.contains(&place) {
            unique.push(place);
        }
    }
    unique
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::check_text;

    fn config(text: &str) -> CheckedConfig {
        check_text("f", text, &|_| None, true).unwrap()
    }

    #[test]
    fn the_state_folder_is_made_or_replaced() {
        let base = std::env::temp_dir().join(format!("victor-places-{}", std::process::id()));
        let (wanted, local) = (base.join("a/state"), base.join("local"));
        let text = format!("state_dir: {}\n", wanted.display());

        let mut settled = config(&text);
        settle(&mut settled, &local).unwrap();
        assert_eq!(settled.state_dir, wanted);
        assert_eq!(settled.database.path, wanted.join("victor.db"));
        assert_eq!(settled.admin.socket, wanted.join("admin.sock"));
        assert!(settled.warnings.is_empty() && !local.exists());
        let mode = std::fs::metadata(&wanted).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        // A file where a folder should be can be written to by nobody, root included.
        std::fs::remove_dir(&wanted).unwrap();
        std::fs::write(&wanted, "").unwrap();
        let mut settled = config(&text);
        settle(&mut settled, &local).unwrap();
        assert_eq!(settled.state_dir, local);
        assert_eq!(settled.database.path, local.join("victor.db"));
        assert_eq!(settled.admin.socket, local.join("admin.sock"));
        assert!(settled.warnings[0].contains("takes its place"));
        assert!(settle(&mut config(&text), &wanted).is_err());

        // Whoever looks for it finds it, wherever it was put.
        let found = |state_dir: &Path, socket: &str| sockets(state_dir, Path::new(socket), &local);
        let own = |name: &str| base.join(name).join("admin.sock");
        assert_eq!(
            found(&wanted, "/a/s"),
            [PathBuf::from("/a/s"), own("a/state"), own("local")]
        );
        assert_eq!(found(&local, "/a/s"), [PathBuf::from("/a/s"), own("local")]);

        let mut settled = config(&format!("{text}admin: {{socket: /no/such/folder/s}}\n"));
        settle(&mut settled, &local).unwrap();
        assert_eq!(settled.admin.socket, local.join("admin.sock"));
        assert!(
            settled
                .warnings
                .iter()
                .any(|warning| warning.starts_with("admin.socket"))
        );
        std::fs::remove_dir_all(&base).unwrap();
    }
}
