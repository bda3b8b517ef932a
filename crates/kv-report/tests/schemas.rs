//! The published schemas of the files of a run are current.

use std::fs;
use std::path::Path;

use kv_report::schemas;

/// `UPDATE=1 cargo test -p kv-report --test schemas` writes them anew.
#[test]
fn the_published_schemas_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/schema");
    for (name, current) in schemas() {
        let path = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &current).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), current, "run it again with UPDATE=1 in the environment");
    }
}
