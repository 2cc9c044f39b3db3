//! Address lists as people write them into headers and command lines (RFC 5322 3.4, with the obsolete forms
//! of 4.4): comments, quoted names, groups, folding, source routes, bare names. Pure.
//!
//! What is not clearly an address is an error that names it, so that no recipient is lost in silence; nothing
//! here can be made to recurse or to keep more than its input. Display names are passed over whatever they
//! hold, encoded words (RFC 2047) included.

use common::address::{Address, AddressError, Domain, LocalPart};
use std::fmt;

/// An address list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListError {
    /// The part that is wrong, printable.
    pub part: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad address {:?}: {}", self.part, self.what)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A run of ordinary characters.
    Atom(String),
    /// The content of a quoted-string, quotes and backslashes undone.
    Quoted(String),
    /// A domain literal with its brackets.
    Literal(String),
    /// One of `<>,:;@.`
    Mark(u8),
}

/// The addresses in the list, in order; bare names are completed with `mail_name`. An empty list, or one of
/// empty groups, gives none.
pub fn parse(text: &[u8], mail_name: &Domain) -> Result<Vec<Address>, ListError> {
    let tokens = tokens(text)?;
    let mut found = Vec::new();
    // What stands before the mark that says what it was.
    let mut words: Vec<&Token> = Vec::new();
    let mut rest = tokens.as_slice();
    while let Some((token, tail)) = rest.split_first() {
        rest = tail;
        match token {
            Token::Mark(b',' | b';') => {
                found.extend(bare(&words, mail_name)?);
                words.clear();
            }
            // The name of a group.
            Token::Mark(b':') => words.clear(),
            Token::Mark(b'<') => {
                words.clear();
                let end = rest.iter().position(|t| *t == Token::Mark(b'>'));
                let (inside, behind) = end.and_then(|i| rest.split_at_checked(i)).unwrap_or((rest, &[]));
                let inside: Vec<&Token> = inside.iter().collect();
                rest = match behind {
                    [] => return Err(wrong(&inside, "missing \">\"")),
                    [_, Token::Mark(b',' | b';'), behind @ ..] => behind,
                    [_] => &[],
                    [_, _, ..] => return Err(wrong(&inside, "text behind \">\"; is a comma missing?")),
                };
                found.push(address(strip_route(&inside), mail_name)?);
            }
            Token::Mark(b'>') => return Err(wrong(&words, "\">\" without \"<\"")),
            word => words.push(word),
        }
    }
    found.extend(bare(&words, mail_name)?);
    Ok(found)
}

/// An address that stands without angle brackets; nothing at all is no address and no error (`a@b, , c@d`).
fn bare(words: &[&Token], mail_name: &Domain) -> Result<Option<Address>, ListError> {
    if words.is_empty() { Ok(None) } else { address(words, mail_name).map(Some) }
}

/// `@a,@b:joe@c` is `joe@c` (RFC 5322 4.4, obs-route).
fn strip_route<'a, 'b>(tokens: &'b [&'a Token]) -> &'b [&'a Token] {
    let colon = tokens.iter().position(|t| **t == Token::Mark(b':'));
    match (tokens.first(), colon) {
        (Some(Token::Mark(b'@')), Some(i)) => tokens.get(i + 1..).unwrap_or_default(),
        _ => tokens,
    }
}

fn address(tokens: &[&Token], mail_name: &Domain) -> Result<Address, ListError> {
    let at = tokens.iter().rposition(|t| **t == Token::Mark(b'@'));
    let (local, domain) = match at {
        Some(i) => (tokens.get(..i).unwrap_or_default(), tokens.get(i + 1..)),
        None => (tokens, None),
    };
    let error = |error: AddressError| wrong(tokens, &error.to_string());
    // What was no UTF-8 has become this: it would be another address.
    if tokens.iter().any(|token| written(token).contains(char::REPLACEMENT_CHARACTER)) {
        return Err(wrong(tokens, "is not UTF-8"));
    }
    let local = local_part(local)
        .ok_or_else(|| wrong(tokens, "is a comma missing, or are brackets?"))?
        .map_err(error)?;
    let domain = match domain {
        Some(tokens) => domain_text(tokens).parse().map_err(error)?,
        None => mail_name.clone(),
    };
    Address::new(local, domain).map_err(error)
}

/// Words with dots between them; `None` for words without.
fn local_part(tokens: &[&Token]) -> Option<Result<LocalPart, AddressError>> {
    let mut value = String::new();
    let mut quoted = false;
    let mut word_before = false;
    for token in tokens {
        let is_word = **token != Token::Mark(b'.');
        if is_word && word_before {
            return None;
        }
        word_before = is_word;
        match token {
            Token::Mark(b'.') => value.push('.'),
            Token::Atom(text) => value.push_str(text),
            Token::Quoted(text) => {
                quoted = true;
                value.push_str(text);
            }
            Token::Mark(_) | Token::Literal(_) => return None,
        }
    }
    Some(if quoted { LocalPart::quote(&value) } else { value.parse() })
}

/// The text of a domain; one dot at its end is passed over. Marks that belong nowhere make it unreadable as a
/// [`Domain`].
fn domain_text(tokens: &[&Token]) -> String {
    let tokens = match tokens.split_last() {
        Some((Token::Mark(b'.'), rest)) => rest,
        _ => tokens,
    };
    let mut text = String::new();
    let mut word_before = false;
    for token in tokens {
        let is_word = !matches!(token, Token::Mark(_));
        if is_word && word_before {
            text.push(' ');
        }
        word_before = is_word;
        text.push_str(&written(token));
    }
    text
}

fn written(token: &Token) -> String {
    match token {
        Token::Atom(text) | Token::Literal(text) => text.clone(),
        Token::Quoted(text) => format!("\"{text}\""),
        Token::Mark(mark) => char::from(*mark).to_string(),
    }
}

fn wrong(tokens: &[&Token], what: &str) -> ListError {
    let mut part = String::new();
    let mut word_before = false;
    for token in tokens {
        let is_word = !matches!(token, Token::Mark(_));
        if is_word && word_before {
            part.push(' ');
        }
        word_before = is_word;
        part.push_str(&written(token));
    }
    ListError { part: common::text::printable(&part, 200), what: what.to_owned() }
}

/// Splits into tokens; white space, folding and comments (RFC 5322 3.2.2) only separate. Octets above 127
/// count as ordinary characters.
fn tokens(text: &[u8]) -> Result<Vec<Token>, ListError> {
    let unclosed = |from: &[u8], what: &str| ListError {
        part: common::text::printable_bytes(from, 200),
        what: what.to_owned(),
    };
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => rest = tail,
            b'(' => rest = skip_comment(rest).ok_or_else(|| unclosed(rest, "missing \")\""))?,
            b'"' => {
                let (value, behind) = quoted(tail).ok_or_else(|| unclosed(rest, "missing '\"'"))?;
                found.push(Token::Quoted(String::from_utf8_lossy(&value).into_owned()));
                rest = behind;
            }
            b'[' => {
                let end =
                    rest.iter().position(|b| *b == b']').ok_or_else(|| unclosed(rest, "missing \"]\""))?;
                let (literal, behind) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
                found.push(Token::Literal(String::from_utf8_lossy(literal).into_owned()));
                rest = behind;
            }
            b'<' | b'>' | b',' | b':' | b';' | b'@' | b'.' => {
                found.push(Token::Mark(first));
                rest = tail;
            }
            _ => {
                let ends = |b: &u8| b" \t\r\n(\"[<>,:;@.".contains(b);
                let end = rest.iter().position(ends).unwrap_or(rest.len());
                let (atom, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                found.push(Token::Atom(String::from_utf8_lossy(atom).into_owned()));
                rest = behind;
            }
        }
    }
    Ok(found)
}

/// What stands behind the comment at the start of `text`; comments nest.
fn skip_comment(text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0u32;
    let mut bytes = text.iter().enumerate();
    while let Some((i, b)) = bytes.next() {
        match b {
            b'\\' => {
                bytes.next();
            }
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(i + 1..);
        }
    }
    None
}

/// The value of a quoted-string whose opening quote is already read, and what stands behind it. Folding
/// inside disappears.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((i, b)) = bytes.next() {
        match b {
            b'"' => return Some((value, text.get(i + 1..)?)),
            b'\\' => value.extend(bytes.next().map(|(_, b)| *b)),
            b'\r' | b'\n' => {}
            other => value.push(*other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, ListError> {
        let mail_name = "here.example".parse().unwrap();
        parse(text.as_bytes(), &mail_name).map(|list| list.iter().map(Address::to_string).collect())
    }

    #[test]
    fn lists_that_are_read() {
        for (text, expected) in [
            ("", &[][..]),
            (" \r\n\t", &[]),
            ("joe", &["joe@here.example"]),
            ("joe@x.example", &["joe@x.example"]),
            ("a@b,c@d", &["a@b", "c@d"]),
            (", a@b ,, c@d,", &["a@b", "c@d"]),
            ("Joe Doe <joe@x.example>", &["joe@x.example"]),
            ("\"Doe, Joe\" <joe@x.example>, b", &["joe@x.example", "b@here.example"]),
            ("\"a \\\" < b\" <joe@x>", &["joe@x"]),
            ("=?utf-8?q?J=C3=B6?= <joe@x>", &["joe@x"]),
            ("J\u{f6} <joe@x>", &["joe@x"]),
            ("<joe>", &["joe@here.example"]),
            ("joe@x (Joe (the \\) one) Doe)", &["joe@x"]),
            ("(c1) joe (c2) @ (c3) x (c4) . (c5) y", &["joe@x.y"]),
            ("joe . doe @ x . y", &["joe.doe@x.y"]),
            ("Joe\r\n Doe\r\n\t<joe@x>,\r\n b@c", &["joe@x", "b@c"]),
            ("\"a b\"@c", &["\"a b\"@c"]),
            ("\"joe\"@c", &["joe@c"]),
            ("\"a@b\"@c", &["\"a@b\"@c"]),
            ("\"a,b\".c@d", &["\"a,b.c\"@d"]),
            ("\"a\r\n b\"@c", &["\"a b\"@c"]),
            ("Friends: a@b, C <c@d>;, e@f", &["a@b", "c@d", "e@f"]),
            ("undisclosed-recipients:;", &[]),
            ("A: a@b; B: c@d;", &["a@b", "c@d"]),
            ("<@a,@b:joe@c>", &["joe@c"]),
            ("joe@[127.0.0.1], x@[IPv6:::1]", &["joe@[127.0.0.1]", "x@[IPv6:::1]"]),
            ("joe@x.example.", &["joe@x.example"]),
            ("j\u{f6}e@b\u{fc}cher.example", &["j\u{f6}e@xn--bcher-kva.example"]),
            ("host!user, a%b@c", &["host!user@here.example", "a%b@c"]),
            ("a@b;c@d", &["a@b", "c@d"]),
            ("bounce+joe=x.example@y", &["bounce+joe=x.example@y"]),
        ] {
            assert_eq!(
                read(text).as_deref(),
                Ok(expected.iter().map(|s| (*s).to_string()).collect::<Vec<_>>().as_slice()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lists_that_are_refused_name_the_culprit() {
        for (text, part, what) in [
            ("a@b c@d", "a@b c@d", "comma"),
            ("Joe Doe", "Joe Doe", "comma"),
            ("x, Joe Doe, y", "Joe Doe", "comma"),
            ("<a@b> c@d", "a@b", "comma"),
            ("<a@b", "a@b", ">"),
            ("a@b>", "a@b", "<"),
            ("<>", "", "malformed"),
            ("Joe <>", "", "malformed"),
            ("a@", "a@", "empty"),
            ("@b", "@b", "malformed"),
            ("a..b@c", "a..b@c", "malformed"),
            ("a@b..", "a@b..", "malformed"),
            ("a@b@c", "a@b@c", "comma"),
            ("(open", "(open", ")"),
            ("\"open", "\\x22open".trim_start_matches("\\x22"), "\""),
            ("a@[1.2.3.4", "[1.2.3.4", "]"),
            ("a@\"b\"", "a@\"b\"", "malformed"),
            ("j\u{f6}\u{202e}e@x", "j\\xc3\\xb6\\xe2\\x80\\xaee@x", "malformed"),
            ("a\x1b[0m@x", "a\\x1b", "]"),
            ("a\0b@x", "a\\x00b@x", "malformed"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.part.contains(part) || text.starts_with("a\x1b"), "{text:?}: {error}");
            assert!(error.what.contains(what), "{text:?}: {error}");
            assert!(error.to_string().bytes().all(|b| (32..127).contains(&b)), "{text:?}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_no_trouble() {
        let deep = "(".repeat(100_000);
        assert!(read(&deep).is_err());
        assert_eq!(read(&format!("{deep}{} a@b", ")".repeat(100_000))), Ok(vec!["a@b".to_string()]));
    }
}
