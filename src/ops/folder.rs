//! The folder of the private socket: ours alone, and gone at the end.
//!
//! A socket's path has at most 107 bytes (`sun_path`, unix(7)) and must not be reachable by
//! anyone else, so it lies in a new folder of mode 0700. Folders that a killed process left are
//! removed at the next start, unless somebody still answers there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PREFIX: &str = "victor-ops-";
/// 107 bytes less a socket's name.
const PATH_BYTES_MAX: usize = 90;
/// Tries for a name of which a process of the same number left a folder.
const NAMES_MAX: u32 = 64;
/// A younger folder may belong to a process that is just starting.
const LEFT_OVER_AGE: Duration = Duration::from_secs(60);

/// A folder that is removed when this is dropped.
pub(super) struct SocketFolder {
    path: PathBuf,
    preferred: PathBuf,
}

impl SocketFolder {
    /// A new folder in `preferred`, else in the temporary folder.
    ///
    /// # Errors
    /// None of them can hold one; the error is that of the last.
    pub fn create(preferred: &Path) -> io::Result<Self> {
        Ok(Self {
            path: find(preferred)?,
            preferred: preferred.to_owned(),
        })
    }

    /// Makes another folder in place of this one, which is gone.
    ///
    /// # Errors
    /// As [`SocketFolder::create`].
    pub fn renew(&mut self) -> io::Result<()> {
        self.path = find(&self.preferred)?;
        Ok(())
    }

    /// The path of the socket of that number.
    pub fn socket(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number}.sock"))
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        // What stays is swept at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Creates a folder in the first place that can hold one.
fn find(preferred: &Path) -> io::Result<PathBuf> {
    let mut last = io::Error::other("no folder to try");
    for parent in [preferred, &std::env::temp_dir(), Path::new("/tmp")] {
        match create_in(parent) {
            Ok(path) => {
                sweep(parent, &path);
                return Ok(path);
            }
            Err(error) => last = error,
        }
    }
    let text = format!("cannot make a folder for the ops plane's socket: {last}");
    Err(io::Error::new(last.kind(), text))
}

fn create_in(parent: &Path) -> io::Result<PathBuf> {
    for number in 0..NAMES_MAX {
        let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes what killed processes left in `parent`. That it cannot is of no consequence.
fn sweep(parent: &Path, own: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && path != own && is_old(&path) && !answers(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_old(path: &Path) -> bool {
    let age = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFT_OVER_AGE))
}

/// Whether a process listens on a socket in the folder. Process numbers would not tell: another
/// container may share the folder. A folder that may not be looked into counts as answering.
fn answers(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |entries| {
        entries
            .flatten()
            .any(|entry| UnixStream::connect(entry.path()).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::time::SystemTime;

    fn age(folder: &Path) {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let times = FileTimes::new().set_modified(hour_ago);
        File::open(folder).unwrap().set_times(times).unwrap();
    }

    #[test]
    fn a_folder_is_private_and_gone_afterwards() {
        let folder = SocketFolder::create(&std::env::temp_dir()).unwrap();
        let path = folder.path.clone();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_or_missing_parent_is_replaced() {
        let check = |parent: &str| {
            let folder = SocketFolder::create(Path::new(parent)).unwrap();
            assert!(folder.socket(u32::MAX).as_os_str().len() <= 107);
        };
        check("/nowhere");
        check(&"/tmp/.".repeat(20));
    }

    #[test]
    fn only_what_is_left_over_is_swept() {
        let parent = SocketFolder::create(&std::env::temp_dir()).unwrap();
        let path = |name: &str| parent.path.join(name);
        for name in ["victor-ops-1-0", "victor-ops-2-0", "victor-ops-3-0", "x"] {
            fs::create_dir(path(name)).unwrap();
        }
        let alive = UnixListener::bind(path("victor-ops-2-0").join("0.sock")).unwrap();
        drop(UnixListener::bind(path("victor-ops-1-0").join("0.sock")).unwrap());
        for name in ["victor-ops-1-0", "victor-ops-2-0", "x"] {
            age(&path(name));
        }
        sweep(&parent.path, &path("own"));
        drop(alive);
        let left = |name: &str| path(name).exists();
        assert!(!left("victor-ops-1-0"), "dead and old");
        assert!(left("victor-ops-2-0"), "alive");
        assert!(left("victor-ops-3-0"), "young");
        assert!(left("x"), "not ours");
    }
}
