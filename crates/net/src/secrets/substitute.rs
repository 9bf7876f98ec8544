//! Putting values in the place of placeholders, in a request's head.
//!
//! In the values of header fields and in the target; also inside `Authorization: Basic`, where a user and a password are
//! encoded. Everything is replaced in one pass, so nothing in a value is taken for a placeholder.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use net_proto::Secret;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use zeroize::Zeroizing;

use super::HEAD_BYTES_MAX;
use super::set::Bound;

/// All but what means itself everywhere in a URI (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const BASIC: &[u8] = b"basic ";

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Unfit {
    #[error("with its secrets the head of the request is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("with its secrets the head of the request is not valid")]
    Invalid,
}

/// Bytes that may still be added to a head.
struct Room(usize);

/// A text and what is to stand in its place.
struct Pair<'a> {
    from: &'a [u8],
    to: &'a [u8],
}

pub(super) fn in_head(
    headers: &mut HeaderMap,
    target: &PathAndQuery,
    bound: &Bound,
) -> Result<Option<PathAndQuery>, Unfit> {
    let mut room = Room(HEAD_BYTES_MAX);
    let pairs: Vec<Pair<'_>> = bound.iter().map(plain).collect();
    for (name, value) in headers.iter_mut() {
        room.take(name.as_str().len() + value.len())?;
        // It is what the secrets were chosen by.
        if name == HOST {
            continue;
        }
        let mut replaced = replace(value.as_bytes(), &pairs, &mut room)?;
        if replaced.is_none() && name == AUTHORIZATION {
            replaced = in_basic(value.as_bytes(), &pairs, &mut room)?;
        }
        if let Some(replaced) = replaced {
            *value = HeaderValue::from_bytes(&replaced).map_err(|_| Unfit::Invalid)?;
            value.set_sensitive(true);
        }
    }
    in_target(target, bound, &mut room)
}

fn plain(secret: &Secret) -> Pair<'_> {
    Pair {
        from: secret.placeholder.as_bytes(),
        to: secret.value.reveal().as_bytes(),
    }
}

/// A client may have encoded the placeholder; the value is encoded in any case.
fn in_target(target: &PathAndQuery, bound: &Bound, room: &mut Room) -> Result<Option<PathAndQuery>, Unfit> {
    room.take(target.as_str().len())?;
    let encoded = |secret: &Secret| {
        let upper = utf8_percent_encode(&secret.placeholder, RESERVED).to_string();
        let lower = lower_hex(&upper);
        let value = Zeroizing::new(utf8_percent_encode(secret.value.reveal(), RESERVED).to_string());
        ([secret.placeholder.clone(), upper, lower], value)
    };
    let forms: Vec<([String; 3], Zeroizing<String>)> = bound.iter().map(encoded).collect();
    let mut pairs: Vec<Pair<'_>> = forms
        .iter()
        .flat_map(|(forms, value)| {
            forms.iter().map(|form| Pair {
                from: form.as_bytes(),
                to: value.as_bytes(),
            })
        })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.from.len()));
    match replace(target.as_str().as_bytes(), &pairs, room)? {
        None => Ok(None),
        Some(replaced) => {
            let target = PathAndQuery::try_from(&replaced[..]).map_err(|_| Unfit::Invalid)?;
            Ok(Some(target))
        }
    }
}

/// The same with the digits of its escapes in lower case.
fn lower_hex(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut lower = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        lower.push('%');
        lower.push_str(&digits.to_ascii_lowercase());
        lower.push_str(rest);
    }
    lower
}

fn in_basic(value: &[u8], pairs: &[Pair<'_>], room: &mut Room) -> Result<Option<Zeroizing<Vec<u8>>>, Unfit> {
    let Some((scheme, encoded)) = value.split_at_checked(BASIC.len()) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return Ok(None);
    }
    let Ok(decoded) = STANDARD.decode(encoded.trim_ascii()) else {
        return Ok(None);
    };
    let Some(replaced) = replace(&decoded, pairs, room)? else {
        return Ok(None);
    };
    let encoded = Zeroizing::new(STANDARD.encode(&*replaced));
    // Encoding makes it longer by a third.
    room.take(encoded.len().saturating_sub(replaced.len()))?;
    Ok(Some(Zeroizing::new([scheme, encoded.as_bytes()].concat())))
}

/// None if there is nothing to be replaced.
fn replace(bytes: &[u8], pairs: &[Pair<'_>], room: &mut Room) -> Result<Option<Zeroizing<Vec<u8>>>, Unfit> {
    let mut replaced: Option<Zeroizing<Vec<u8>>> = None;
    let (mut at, mut kept) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(pair) = pairs.iter().find(|pair| rest.starts_with(pair.from)) else {
            at += 1;
            continue;
        };
        room.take(pair.to.len())?;
        // Of its full size from the beginning: one that grew would leave copies behind.
        let out = replaced.get_or_insert_with(|| Zeroizing::new(Vec::with_capacity(HEAD_BYTES_MAX)));
        out.extend_from_slice(bytes.get(kept..at).unwrap_or_default());
        out.extend_from_slice(pair.to);
        at += pair.from.len();
        kept = at;
    }
    if let Some(out) = &mut replaced {
        out.extend_from_slice(bytes.get(kept..).unwrap_or_default());
    }
    Ok(replaced)
}

impl Room {
    fn take(&mut self, count: usize) -> Result<(), Unfit> {
        self.0 = self.0.checked_sub(count).ok_or(Unfit::TooLong)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use net_proto::SecretValue;
    use proptest::prelude::*;

    use super::super::set::SecretSet;
    use super::*;

    fn bound(pairs: &[(&str, &str)]) -> Bound {
        let secret = |(placeholder, value): &(&str, &str)| Secret {
            placeholder: (*placeholder).to_owned(),
            value: SecretValue::new((*value).to_owned()),
            hosts: vec!["a.example".parse().unwrap()],
        };
        let set = SecretSet::new(pairs.iter().map(secret).collect()).unwrap();
        set.bound_to(&"a.example".parse().unwrap(), 443)
    }

    fn header(name: &'static str, value: &str, bound: &Bound) -> Result<String, Unfit> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        in_head(&mut headers, &"/".parse().unwrap(), bound)?;
        Ok(String::from_utf8(headers[name].as_bytes().to_vec()).unwrap())
    }

    fn target(text: &str, bound: &Bound) -> String {
        let target = text.parse().unwrap();
        let replaced = in_head(&mut HeaderMap::new(), &target, bound).unwrap();
        replaced.unwrap_or(target).to_string()
    }

    #[test]
    fn placeholders_in_values_are_replaced_wherever_they_are_and_as_often() {
        let bound = bound(&[("{{TOKEN}}", "hunter2"), ("{{TOKEN}}-B", "other")]);
        let value = |text: &str| header("x-key", text, &bound).unwrap();
        assert_eq!(value("Bearer {{TOKEN}}"), "Bearer hunter2");
        assert_eq!(value("{{TOKEN}}{{TOKEN}}-B{{TOKEN}"), "hunter2other{{TOKEN}");
        assert_eq!(value("nothing"), "nothing");
        assert_eq!(header("host", "{{TOKEN}}", &bound).unwrap(), "{{TOKEN}}");
    }

    #[test]
    fn a_value_is_never_taken_for_a_placeholder() {
        let bound = bound(&[("{{FIRST}}", "{{SECOND}}"), ("{{SECOND}}", "x")]);
        assert_eq!(
            header("x-key", "{{FIRST}} {{SECOND}}", &bound).unwrap(),
            "{{SECOND}} x"
        );
    }

    #[test]
    fn in_the_target_the_value_is_encoded_and_the_placeholder_may_be() {
        let bound = bound(&[("{{TOKEN}}", "a b&c/d")]);
        for text in [
            "/x?key={{TOKEN}}&y=1",
            "/x?key=%7B%7BTOKEN%7D%7D&y=1",
            "/x?key=%7b%7bTOKEN%7d%7d&y=1",
        ] {
            assert_eq!(target(text, &bound), "/x?key=a%20b%26c%2Fd&y=1", "{text}");
        }
        assert_eq!(target("/bot{{TOKEN}}/send", &bound), "/bota%20b%26c%2Fd/send");
    }

    #[test]
    fn a_user_or_password_that_is_encoded_is_found() {
        let bound = bound(&[("{{TOKEN}}", "hunter2")]);
        let given = format!("basic {}", STANDARD.encode("me:{{TOKEN}}"));
        let wanted = format!("basic {}", STANDARD.encode("me:hunter2"));
        assert_eq!(header("authorization", &given, &bound).unwrap(), wanted);
        // Elsewhere it is not looked for, and what is no base64 stays as it is.
        assert_eq!(header("x-other", &given, &bound).unwrap(), given);
        assert_eq!(header("authorization", "Basic ?", &bound).unwrap(), "Basic ?");
    }

    #[test]
    fn a_head_cannot_be_blown_up() {
        let long = "x".repeat(8000);
        let bound = bound(&[("{{TOKEN}}", &long)]);
        let many = "{{TOKEN}}".repeat(9);
        assert_eq!(header("x-key", &many, &bound), Err(Unfit::TooLong));
        assert!(header("x-key", "{{TOKEN}}", &bound).is_ok());
    }

    proptest! {
        #[test]
        fn any_value_comes_through_and_only_placeholders_change(before in "[ -z]{0,30}", after in "[ -z]{0,30}") {
            let bound = bound(&[("{{TOKEN}}", "hunter2")]);
            let given = format!("x{before}{{{{TOKEN}}}}{after}x");
            let wanted = format!("x{before}hunter2{after}x");
            prop_assert_eq!(header("authorization", &given, &bound).unwrap(), wanted);
        }
    }
}
