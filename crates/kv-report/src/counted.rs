//! Numbers with the words that they count.

/// A number and what it counts, in the singular or the plural: "1 launch", "3 launches".
pub fn counted(number: usize, what: &str) -> String {
    let plural = match what {
        _ if number == 1 => what.to_owned(),
        _ if what.ends_with(['s', 'h', 'x']) => format!("{what}es"),
        _ => format!("{what}s"),
    };
    format!("{number} {plural}")
}

/// "was" or "were", after so many.
pub fn were(number: usize) -> &'static str {
    if number == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_what_hisses_takes_a_syllable_more() {
        let counts = [(0, "token"), (1, "token"), (2, "more row"), (1, "launch"), (3, "launch"), (2, "process")];
        let shown = counts.map(|(number, what)| counted(number, what));
        assert_eq!(shown, ["0 tokens", "1 token", "2 more rows", "1 launch", "3 launches", "2 processes"]);
        assert_eq!([1, 2].map(were), ["was", "were"]);
    }
}
