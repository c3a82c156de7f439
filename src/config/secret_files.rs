//! Secrets that stand in files of their own: read once, at the start.
//!
//! Owns the pairs of a secret and its file. Errors name the file, never what is in it.

use super::{Config, Secret};

/// Longer files hold no secret.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// Puts what the files hold into place. Key and problem of each that can not be used.
pub(super) fn read(config: &mut Config) -> Vec<(&'static str, String)> {
    let auth = &mut config.auth;
    let pairs = [
        ("auth.jwt_secret_file", &auth.jwt_secret_file, &mut auth.jwt_secret),
        ("auth.root_password_file", &auth.root_password_file, &mut auth.root_password),
    ];
    let mut faults = Vec::new();
    for (key, file, secret) in pairs {
        let Some(file) = file else { continue };
        if secret.is_some() {
            faults.push((key, "the secret itself is set as well; keep one of the two".to_owned()));
            continue;
        }
        match secret_in(file) {
            Ok(found) => *secret = Some(found),
            Err(problem) => faults.push((key, problem)),
        }
    }
    faults
}

fn secret_in(path: &str) -> Result<Secret, String> {
    let unreadable = |error: std::io::Error| format!("can not be read: {error}");
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(format!("is longer than {FILE_MAX_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    // Editors end a file with a line break.
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::new(secret)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_errors_show_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("secret"), "from a file, with a blank \n").unwrap();
        std::fs::write(path("empty"), "\n").unwrap();
        let mut config = Config::default();
        config.auth.jwt_secret_file = Some(path("secret"));
        assert_eq!(read(&mut config), []);
        assert_eq!(config.auth.jwt_secret, Some(Secret::new("from a file, with a blank ")));

        let faults = read(&mut config);
        assert!(matches!(&faults[..], [("auth.jwt_secret_file", both)] if both.contains("as well")), "{faults:?}");
        assert!(!format!("{faults:?} {config:?}").contains("with a blank"));

        for (file, words) in [("empty", "is empty"), ("absent", "can not be read")] {
            let mut config = Config::default();
            config.auth.root_password_file = Some(path(file));
            let faults = read(&mut config);
            assert!(matches!(&faults[..], [("auth.root_password_file", text)] if text.contains(words)), "{faults:?}");
        }
    }
}
