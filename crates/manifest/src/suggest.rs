//! "Did you mean": the known word that is nearest to what was written.

/// None when no word is near enough to be worth a suggestion.
pub(crate) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let written = squeezed(written);
    let distance = |word: &str| strsim::damerau_levenshtein(&written, &squeezed(word));
    let (best, word) = known.iter().map(|word| (distance(word), *word)).min()?;
    // A third of the word may be mistyped: less than that is another word.
    let allowed = written.chars().count().max(squeezed(word).chars().count()) / 3;
    (best <= allowed.min(3)).then_some(word)
}

/// As it sounds: without case, `-` and `_`, so that `stop_grace` is `stopGrace`.
fn squeezed(word: &str) -> String {
    // Longer than any known word; the distance to it must not cost much.
    word.chars().take(40).filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["replicas", "image", "stopGrace", "env"];
        assert_eq!(nearest("replica", &known), Some("replicas"));
        assert_eq!(nearest("repilcas", &known), Some("replicas"));
        assert_eq!(nearest("Image", &known), Some("image"));
        assert_eq!(nearest("stop_grace", &known), Some("stopGrace"));
        assert_eq!(nearest("evn", &known), Some("env"));
        assert_eq!(nearest("volumes", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
