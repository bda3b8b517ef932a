//! plotly.js, the script that draws the figures of a page. `plotly/README.md` says where it comes from.

/// The script, as its npm package has it.
pub(crate) const SCRIPT: &str = include_str!("../plotly/plotly-basic.min.js");

/// The license of the script, which every copy must carry.
pub(crate) const LICENSE: &str = include_str!("../plotly/LICENSE");

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const README: &str = include_str!("../plotly/README.md");

    /// The value in the line of the README's table that begins with a name.
    fn stated(name: &str) -> &str {
        let line = README.lines().find_map(|line| line.strip_prefix(&format!("| {name} | ")));
        line.unwrap().trim_end_matches(" |").trim_matches('`')
    }

    #[test]
    fn the_script_is_the_one_that_its_readme_names() {
        let sum: String = Sha256::digest(SCRIPT).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, stated("SHA-256"), "update the SHA-256 in plotly/README.md with the script");
        let banner = SCRIPT.lines().nth(1).unwrap();
        assert!(banner.ends_with(&format!("v{}", stated("version"))), "{banner}");
    }

    #[test]
    fn the_script_and_its_license_stay_inside_their_elements() {
        let script = SCRIPT.to_lowercase();
        assert!(!script.contains("</script") && !script.contains("<!--"), "the script would end its element");
        assert!(!LICENSE.contains("--"), "the license would end its comment");
    }
}
