//! Names of models on the Hugging Face hub, and of single files there.

/// A model, or one GGUF file of it, at one revision: `org/name`, `org/name@revision`, `org/name/file.gguf` or
/// `org/name@revision/file.gguf`.
///
/// Its parts have only characters that the hub and git allow in them, and none is empty, `.` or `..`, so that none
/// leads out of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubName<'a> {
    /// As the user wrote it.
    pub(super) written: &'a str,
    /// The organization or user and the model: `org/name`.
    pub(super) repository: &'a str,
    /// What follows: one reading, or several if a slash may belong to the revision as well as to the file.
    pub(super) readings: Vec<Reading<'a>>,
}

/// What a name says about the revision and the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    /// A branch, a tag or a commit; `main` if none is named.
    pub(super) revision: Option<&'a str>,
    /// A GGUF file, perhaps in a folder of the repository; none for the whole model.
    pub(super) file: Option<&'a str>,
}

impl<'a> HubName<'a> {
    /// Takes a name apart; `None` if it cannot be one.
    pub(super) fn parse(written: &'a str) -> Option<HubName<'a>> {
        let slash = written.find('/')?;
        let (organization, model) = (&written[..slash], &written[slash + 1..]);
        let (model, rest) = model.split_at(model.find(['/', '@']).unwrap_or(model.len()));
        let readings: Vec<Reading> = match rest.split_at_checked(1) {
            None => vec![Reading { revision: None, file: None }],
            Some(("/", file)) => vec![Reading { revision: None, file: Some(file) }],
            Some((_, rest)) if is_gguf(rest) && rest.contains('/') => {
                rest.match_indices('/').map(|(at, _)| Reading { revision: Some(&rest[..at]), file: Some(&rest[at + 1..]) }).collect()
            }
            Some((_, revision)) => vec![Reading { revision: Some(revision), file: None }],
        };
        // `folder/file.gguf` is a path that does not exist, not a model of this name.
        let is_model = is_id(organization) && is_id(model) && !is_gguf(model);
        let is_valid = |reading: &Reading| {
            reading.revision.is_none_or(|revision| has_plain_parts(revision) && !revision.contains(' '))
                && reading.file.is_none_or(|file| has_plain_parts(file) && is_gguf(file))
        };
        let repository = &written[..slash + 1 + model.len()];
        (is_model && readings.iter().all(is_valid)).then_some(HubName { written, repository, readings })
    }

    /// Whether it names one file.
    pub(super) fn is_file(&self) -> bool {
        self.readings.iter().any(|reading| reading.file.is_some())
    }

    /// The command that brings what is named.
    pub(super) fn download(&self, reading: &Reading) -> String {
        let file = reading.file.map_or(String::new(), |file| format!(" {}", shell_word(file)));
        let revision = reading.revision.map_or(String::new(), |revision| format!(" --revision {}", shell_word(revision)));
        format!("hf download {}{file}{revision}", self.repository)
    }
}

/// Whether a name has the ending of a GGUF file.
pub(super) fn is_gguf(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("gguf"))
}

/// Whether the hub allows an organization or a model to be called so, as `huggingface_hub.utils.validate_repo_id` says.
fn is_id(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edges = ['-', '.'];
    (1..=96).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with(edges)
        && !text.ends_with(edges)
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether a path stays below where it starts, on every system.
fn has_plain_parts(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(|c: char| matches!(c, '\\' | ':') || c.is_control());
    path.split('/').all(is_plain)
}

/// A word of a command, quoted if a shell would read more into it.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./+=@%".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_repository_and_may_have_a_revision_and_a_file() {
        for (written, repository, readings) in [
            ("org/name", "org/name", &[(None, None)][..]),
            ("Org-1/na.me_2", "Org-1/na.me_2", &[(None, None)]),
            ("org/name@v1.0", "org/name", &[(Some("v1.0"), None)]),
            ("org/name@refs/pr/1", "org/name", &[(Some("refs/pr/1"), None)]),
            ("org/name/file.gguf", "org/name", &[(None, Some("file.gguf"))]),
            ("org/name/Q4/file.GGUF", "org/name", &[(None, Some("Q4/file.GGUF"))]),
            ("org/name@v1/file.gguf", "org/name", &[(Some("v1"), Some("file.gguf"))]),
            ("org/name@refs/pr/file.gguf", "org/name", &[(Some("refs"), Some("pr/file.gguf")), (Some("refs/pr"), Some("file.gguf"))]),
        ] {
            let name = HubName::parse(written).unwrap();
            let found: Vec<_> = name.readings.iter().map(|reading| (reading.revision, reading.file)).collect();
            assert_eq!((name.repository, found.as_slice()), (repository, readings), "{written}");
            assert_eq!(name.is_file(), readings[0].1.is_some(), "{written}");
        }
    }

    #[test]
    fn what_could_lead_out_of_the_cache_or_cannot_be_a_name_is_none() {
        let long = format!("{}/name", "x".repeat(97));
        for name in [
            "",
            "/",
            "name",
            "org/",
            "/name",
            "/etc/passwd",
            "./name",
            "../name",
            "org/..",
            "org/.",
            "~/name",
            "a..b/name",
            "a--b/name",
            "-a/name",
            "org/name/",
            "org/name/..",
            "org/name/file.bin",
            "org/name//x.gguf",
            "org/name/../x.gguf",
            "org/name/./x.gguf",
            "org/name/a\\x.gguf",
            "org/name/C:x.gguf",
            "org/name/a\0.gguf",
            "org\\name",
            "C:/name",
            "org/na\0me",
            "org/na me",
            "örg/name",
            "org/name@",
            "org/name@..",
            "org/name@../x",
            "org/name@a//b",
            "org/name@/etc",
            "org/name@a/../b/x.gguf",
            "org/name@a\\b",
            "org/name@a\0",
            "org/name@a/",
            "org/name@/x.gguf",
            "org/name@a b",
            "org@v1/name",
            "models/x.gguf",
            long.as_str(),
        ] {
            assert_eq!(HubName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_command_names_the_file_and_the_revision_and_is_safe_to_run() {
        for (name, command) in [
            ("org/name", "hf download org/name"),
            ("org/name@refs/pr/1", "hf download org/name --revision refs/pr/1"),
            ("org/name/a/b.gguf", "hf download org/name a/b.gguf"),
            ("org/name@v1/b.gguf", "hf download org/name b.gguf --revision v1"),
            ("org/name@$(id)", "hf download org/name --revision '$(id)'"),
            ("org/name/it's; id.gguf", "hf download org/name 'it'\\''s; id.gguf'"),
        ] {
            let name = HubName::parse(name).unwrap();
            assert_eq!(name.download(&name.readings[0]), command);
        }
    }
}
