//! Models in Ollama's folder, as `ollama pull` leaves them there.
//!
//! `manifests/HOST/NAMESPACE/MODEL/TAG` is a JSON file that lists the model's layers. The layer of the weights is a
//! GGUF file, which lies in `blobs` under its SHA-256 and has no ending.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Problem;
use crate::models::small_file::read_small;

/// What the name of an Ollama model begins with.
pub(super) const PREFIX: &str = "ollama:";

const WEIGHTS: &str = "application/vnd.ollama.image.model";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";

/// A manifest has a handful of layers, or a few thousand if each tensor is one.
const MOST_MANIFEST_BYTES: u64 = 4 << 20;

/// An Ollama model: `[host/][namespace/]model[:tag]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OllamaName<'a> {
    /// As the user wrote it, without the prefix `ollama:`.
    pub(super) written: &'a str,
    host: &'a str,
    namespace: &'a str,
    model: &'a str,
    tag: &'a str,
}

#[derive(Deserialize)]
struct Manifest {
    /// Ollama writes `null` for an empty list.
    layers: Option<Vec<Layer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    /// Bytes of the blob.
    size: Option<u64>,
}

impl<'a> OllamaName<'a> {
    /// Takes a name apart and completes it as Ollama does. Its parts have only characters that Ollama allows in them,
    /// so that none leads out of a folder.
    ///
    /// # Errors
    /// A [`Problem`] if Ollama would not take the name.
    pub(super) fn parse(written: &'a str) -> Result<OllamaName<'a>, Problem> {
        // A host may have a colon too, in front of its port.
        let (path, tag) = written.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((written, "latest"));
        let (rest, model) = path.rsplit_once('/').map_or((None, path), |(rest, model)| (Some(rest), model));
        let (host, namespace) = match rest {
            None => (None, "library"),
            Some(rest) => rest.rsplit_once('/').map_or((None, rest), |(host, namespace)| (Some(host), namespace)),
        };
        let host = host.map_or("registry.ollama.ai", |host| host.split_once("://").map_or(host, |(_, host)| host));
        let valid = is_part(host, 350, "-_.:") && is_part(namespace, 80, "-_") && is_part(model, 80, "-_.") && is_part(tag, 80, "-_.");
        if !valid {
            return Err(Problem::new(format!("`{PREFIX}{written}` is no name of a model in Ollama"))
                .help("for example `ollama:llama3.2:1b`, `ollama:user/model:tag` or `ollama:host/user/model:tag`"));
        }
        Ok(OllamaName { written, host, namespace, model, tag })
    }

    /// The GGUF file of the model, in the first of the folders that has it.
    ///
    /// # Errors
    /// A [`Problem`] that names the folders and the command that brings the model, or what is wrong with its manifest.
    pub(super) fn find(&self, folders: &[PathBuf]) -> Result<PathBuf, Problem> {
        for folder in folders {
            // One relative path: on Windows a part with a colon, such as `c:80`, would be taken as a drive.
            let manifest = folder.join(format!("manifests/{}/{}/{}/{}", self.host, self.namespace, self.model, self.tag));
            let text = read_small(&manifest, MOST_MANIFEST_BYTES);
            let text = text.map_err(|problem| problem.help("let your user read Ollama's folder, or set OLLAMA_MODELS to another one"))?;
            if let Some(text) = text {
                return self.weights(folder, &manifest, &text);
            }
        }
        let searched = folders.iter().map(|folder| format!("`{}`", folder.display())).collect::<Vec<_>>().join(" and ");
        Err(if folders.is_empty() {
            Problem::new("the user has no home folder with Ollama's models").help("set OLLAMA_MODELS to their folder")
        } else {
            Problem::new(format!("the Ollama model `{}` is not in {searched}", self.written))
                .help(format!("`ollama pull {}` brings it; if Ollama keeps its models elsewhere, set OLLAMA_MODELS", self.written))
        })
    }

    /// The blob that a manifest names as the weights.
    fn weights(&self, folder: &Path, manifest: &Path, text: &str) -> Result<PathBuf, Problem> {
        let shown = manifest.display();
        let again = || format!("`ollama pull {}` brings it again", self.written);
        let layers = serde_json::from_str(text).map(|manifest: Manifest| manifest.layers.unwrap_or_default());
        let layers = layers.map_err(|error| Problem::new(format!("`{shown}` is no Ollama manifest")).caused_by(error).help(again()))?;
        let of_type = |media_type: &'static str| layers.iter().filter(move |layer| layer.media_type == media_type);
        if of_type(ADAPTER).next().is_some() {
            return Err(Problem::new(format!("`{shown}` adds a LoRA adapter to the weights, which is not supported"))
                .help("merge the adapter into the weights and name the merged GGUF file"));
        }
        let mut weights = of_type(WEIGHTS);
        let (Some(layer), None) = (weights.next(), weights.next()) else {
            let count = of_type(WEIGHTS).count();
            return Err(Problem::new(format!("`{shown}` names {count} layers of type `{WEIGHTS}`, and a model in one GGUF file has 1"))
                .help("a model that runs in the cloud, or that is stored in another format, cannot be measured"));
        };
        let hash =
            layer.digest.strip_prefix("sha256:").filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hash = hash.ok_or_else(|| {
            Problem::new(format!("`{shown}` names the weights `{}`, which is not `sha256:` and 64 hexadecimal digits", layer.digest))
                .help(again())
        })?;
        let blob = folder.join(format!("blobs/sha256-{hash}"));
        let incomplete = |what: String| {
            Problem::new(format!("the Ollama model `{}` is incomplete: `{}` {what}", self.written, blob.display())).help(again())
        };
        match blob.metadata() {
            Err(error) => Err(incomplete("cannot be read".into()).caused_by(error)),
            Ok(found) if !found.is_file() => Err(incomplete("is no file".into())),
            Ok(found) if layer.size.is_some_and(|size| size != found.len()) => {
                let size = layer.size.unwrap_or_default();
                Err(incomplete(format!("has {} bytes, and the manifest says {size}", found.len())))
            }
            Ok(_) => Ok(blob),
        }
    }
}

/// Whether a part of a name has only ASCII letters, digits and these characters, none of which it begins with but `_`.
fn is_part(part: &str, most_bytes: usize, others: &str) -> bool {
    let begins = part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    begins && part.len() <= most_bytes && part.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";

    fn weights() -> Value {
        json!({ "mediaType": WEIGHTS, "digest": format!("sha256:{HASH}"), "size": 4 })
    }

    /// A folder with a manifest at this path, and the blob that [`weights`] names.
    fn folder(path: &str, manifest: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let manifest_path = folder.path().join("manifests").join(path);
        std::fs::create_dir_all(manifest_path.parent().unwrap()).unwrap();
        std::fs::write(manifest_path, manifest).unwrap();
        std::fs::create_dir(folder.path().join("blobs")).unwrap();
        std::fs::write(folder.path().join(format!("blobs/sha256-{HASH}")), "GGUF").unwrap();
        folder
    }

    fn find(folder: &TempDir, name: &str) -> Result<PathBuf, String> {
        OllamaName::parse(name).and_then(|name| name.find(&[folder.path().to_owned()])).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_name_is_completed_as_ollama_does() {
        let manifest = json!({ "schemaVersion": 2, "layers": [{ "mediaType": "other", "digest": "" }, weights()] }).to_string();
        for (name, path) in [
            ("llama3.2:1b", "registry.ollama.ai/library/llama3.2/1b"),
            ("llama3.2", "registry.ollama.ai/library/llama3.2/latest"),
            ("ada/tiny:q4_0", "registry.ollama.ai/ada/tiny/q4_0"),
            ("hf.co/ada/Tiny-GGUF:Q4_0", "hf.co/ada/Tiny-GGUF/Q4_0"),
            ("localhost:5000/ada/tiny", "localhost:5000/ada/tiny/latest"),
            ("https://hf.co/ada/tiny", "hf.co/ada/tiny/latest"),
        ] {
            let folder = folder(path, &manifest);
            let found = find(&folder, name).unwrap();
            assert_eq!(found, folder.path().join(format!("blobs/sha256-{HASH}")), "{name}");
        }
    }

    #[test]
    fn names_that_ollama_does_not_allow_are_refused() {
        let long = "x".repeat(81);
        for name in [
            "",
            ":",
            "..",
            "../x",
            "a/..",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/b/",
            "a/b/c/d",
            "x:",
            "x:../y",
            "x\\y",
            "x\0",
            ".x",
            "-x",
            "a.b/x",
            "ä",
            "x y",
            "x:a:b",
            "C:\\x",
            long.as_str(),
        ] {
            let problem = OllamaName::parse(name).unwrap_err();
            assert!(problem.to_string().contains("is no name of a model in Ollama"), "{name:?}: {problem}");
        }
    }

    #[test]
    fn the_first_folder_that_has_the_model_is_taken_and_all_are_named_if_none_has_it() {
        let manifest = json!({ "layers": [weights()] }).to_string();
        let folders = [folder("elsewhere/a/b/c", ""), folder("registry.ollama.ai/library/tiny/latest", &manifest)];
        let paths = folders.each_ref().map(|folder| folder.path().to_owned());
        assert!(OllamaName::parse("tiny").unwrap().find(&paths).unwrap().starts_with(&paths[1]));
        let problem = format!("{:?}", OllamaName::parse("tiny:1b").unwrap().find(&paths).unwrap_err());
        for part in [paths[0].to_str().unwrap(), paths[1].to_str().unwrap(), "`ollama pull tiny:1b` brings it"] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
        let problem = format!("{:?}", OllamaName::parse("tiny").unwrap().find(&[]).unwrap_err());
        assert!(problem.contains("set OLLAMA_MODELS"), "{problem}");
    }

    #[test]
    fn a_manifest_that_names_no_weights_is_refused_with_its_path() {
        let with = |key: &str, value: Value| {
            let mut layer = weights();
            layer[key] = value;
            json!({ "layers": [layer] }).to_string()
        };
        let not_hexadecimal = format!("sha256:{}", "g".repeat(64));
        let leading_out = format!("sha256:../{}", &HASH[3..]);
        for (manifest, expected) in [
            ("no JSON".to_owned(), "is no Ollama manifest"),
            ("[]".into(), "is no Ollama manifest"),
            (json!({ "layers": 5 }).to_string(), "is no Ollama manifest"),
            (with("size", json!(-1)), "is no Ollama manifest"),
            ("[".repeat(100_000), "is no Ollama manifest"),
            (" ".repeat(MOST_MANIFEST_BYTES as usize + 1), "is longer than 4194304 bytes"),
            (json!({}).to_string(), "names 0 layers"),
            (json!({ "layers": null }).to_string(), "names 0 layers"),
            (json!({ "layers": [weights(), weights()] }).to_string(), "names 2 layers"),
            (json!({ "layers": [weights(), { "mediaType": ADAPTER, "digest": "" }] }).to_string(), "LoRA adapter"),
            (with("digest", json!("sha256:abc")), "is not `sha256:` and 64 hexadecimal digits"),
            (with("digest", json!(not_hexadecimal)), "is not `sha256:` and 64 hexadecimal digits"),
            (with("digest", json!(leading_out)), "is not `sha256:` and 64 hexadecimal digits"),
            (with("digest", json!(format!("md5:{HASH}"))), "is not `sha256:` and 64 hexadecimal digits"),
        ] {
            let problem = find(&folder("registry.ollama.ai/library/tiny/latest", &manifest), "tiny").unwrap_err();
            let start: String = manifest.chars().take(80).collect();
            assert!(problem.contains(expected), "{start}: {problem}");
            assert!(problem.contains("registry.ollama.ai/library/tiny/latest"), "{start}: {problem}");
        }
    }

    #[test]
    fn a_blob_that_is_missing_or_short_makes_the_model_incomplete() {
        let manifest = json!({ "layers": [weights()] }).to_string();
        let folder = folder("registry.ollama.ai/library/tiny/latest", &manifest);
        let blob = folder.path().join(format!("blobs/sha256-{HASH}"));
        std::fs::write(&blob, "GG").unwrap();
        let problem = find(&folder, "tiny").unwrap_err();
        assert!(problem.contains("is incomplete") && problem.contains("has 2 bytes, and the manifest says 4"), "{problem}");
        std::fs::remove_file(&blob).unwrap();
        let problem = find(&folder, "tiny").unwrap_err();
        assert!(problem.contains("is incomplete") && problem.contains(blob.to_str().unwrap()), "{problem}");
        assert!(problem.contains("`ollama pull tiny` brings it again"), "{problem}");
    }
}
