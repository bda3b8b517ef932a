//! Which of a folder's files hold the weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::LoadError;
use crate::hugging_face::document::Document;

const INDEX: &str = "model.safetensors.index.json";
const WHOLE: &str = "model.safetensors";

/// The file of each tensor, as an index says.
pub(super) type Index = BTreeMap<String, String>;

/// The `.safetensors` files of a folder that hold the weights; `present` are the names of all that lie in it.
///
/// With an index they are those that it names. Without one it is `model.safetensors`, or the only file, or a whole
/// set `…-00001-of-00003.safetensors`.
pub(super) fn choose(index: Option<&str>, present: &[String]) -> Result<Vec<String>, LoadError> {
    let present: BTreeSet<&str> = present.iter().map(String::as_str).collect();
    match index {
        Some(index) => choose_named(index, &present),
        None if present.contains(WHOLE) => Ok(vec![WHOLE.to_owned()]),
        None => choose_alone(&present),
    }
}

/// Reads an index.
pub(super) fn parse(index: &str) -> Result<Index, LoadError> {
    let document = Document::parse(INDEX, index)?;
    let map = document.object("weight_map")?.ok_or_else(|| document.wrong("weight_map", "is missing"))?;
    let mut files = Index::new();
    for (tensor, file) in map.entries() {
        // A path would lead out of the folder.
        let name = file.as_str().filter(|name| !name.contains(['/', '\\']) && name.ends_with(".safetensors"));
        let name =
            name.ok_or_else(|| map.wrong(tensor, format!("is {file}; it must name a .safetensors file of the index's own folder")))?;
        files.insert(tensor.clone(), name.to_owned());
    }
    Ok(files)
}

fn choose_named(index: &str, present: &BTreeSet<&str>) -> Result<Vec<String>, LoadError> {
    let named: BTreeSet<String> = parse(index)?.into_values().collect();
    // transformers would take the whole file and others the index: one of the two is left over.
    if present.contains(WHOLE) && !named.contains(WHOLE) {
        return Err(LoadError::files(format!("`{WHOLE}` lies beside `{INDEX}`, which names other files: remove whichever is out of date")));
    }
    let missing: Vec<String> = named.iter().filter(|name| !present.contains(name.as_str())).cloned().collect();
    if !missing.is_empty() {
        return Err(lacking(&missing, named.len(), |all| format!("{all} files that `{INDEX}` names")));
    }
    Ok(named.into_iter().collect())
}

fn choose_alone(present: &BTreeSet<&str>) -> Result<Vec<String>, LoadError> {
    let names: Vec<&str> = present.iter().copied().collect();
    match names.as_slice() {
        [] => Err(LoadError::files("the folder holds no .safetensors file")),
        [only] if part(only).is_none() => Ok(vec![(*only).to_owned()]),
        names => match missing_parts(names) {
            Some(missing) if missing.is_empty() => Ok(names.iter().map(|name| (*name).to_owned()).collect()),
            Some(missing) => Err(lacking(&missing, names.len() + missing.len(), |all| format!("model's {all} files"))),
            None => {
                let files = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Err(LoadError::files(format!(
                    "{} .safetensors files, and no `{INDEX}` says which of them hold the weights: {files}. Restore the index, or remove \
                     the files of other models",
                    names.len()
                )))
            }
        },
    }
}

/// `model-00002-of-00003.safetensors` as `model`, 2 and 3.
fn part(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, total) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| if text.len() == 5 { text.parse().ok() } else { None };
    Some((stem, digits(number)?, digits(total)?))
}

/// The parts missing to one set, if the names are parts of one set.
fn missing_parts(names: &[&str]) -> Option<Vec<String>> {
    let parts: Vec<(&str, usize, usize)> = names.iter().map(|name| part(name)).collect::<Option<_>>()?;
    let &(stem, _, total) = parts.first()?;
    if parts.iter().any(|(other, number, count)| *other != stem || *count != total || !(1..=total).contains(number)) {
        return None;
    }
    let name = |number: usize| format!("{stem}-{number:05}-of-{total:05}.safetensors");
    Some((1..=total).map(name).filter(|name| !names.contains(&name.as_str())).collect())
}

/// Names the first few of the files that are missing.
fn lacking(missing: &[String], all: usize, whole: impl Fn(usize) -> String) -> LoadError {
    const SHOWN: usize = 4;
    let shown = missing.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    let are = if missing.len() == 1 { "is" } else { "are" };
    LoadError::files(format!("{} of the {} {are} missing from the folder: {shown}{more}", missing.len(), whole(all)))
}
