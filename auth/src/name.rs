//! Names of those who log in. Pure.
//!
//! Upper and lower case are the same name, and so are the ways to write an accented letter (in the spirit of RFC 8265 3.3, UsernameCaseMapped).

use unicode_normalization::UnicodeNormalization;

/// Longest name, in octets.
pub const MAX: usize = 255;

/// Can this be a name? It says what is wrong.
pub fn check(name: &str) -> Result<(), &'static str> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == ':';
    match name {
        "" => Err("a name cannot be empty"),
        _ if name.len() > MAX => Err("a name can have 255 octets at most"),
        _ if name.starts_with('#') => Err("a name cannot begin with \"#\""),
        _ if name.chars().any(bad) => Err("a name cannot have white space, control characters or \":\""),
        _ => Ok(()),
    }
}

/// The form in which names are compared.
pub fn key(name: &str) -> String {
    if name.is_ascii() { name.to_ascii_lowercase() } else { name.nfkc().collect::<String>().to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_have_no_separators() {
        for good in ["joe", "Joe.User+x@Example.com", "jürgen", "a\"b", "{x}", &"x".repeat(MAX)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a:b", "#a", "a\n", "a\u{7f}", "\u{85}", "a\u{a0}b", &"x".repeat(MAX + 1)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn case_and_spelling_of_accents_make_no_difference() {
        assert_eq!(key("Joe@Example.COM"), "joe@example.com");
        assert_eq!(key("JU\u{308}RGEN"), key("jürgen"));
        assert_ne!(key("jurgen"), key("jürgen"));
    }
}
