//! `GET /v1/sandboxes/{id}/replay`, the query.

use crate::fields::InvalidRequest;

/// How to give the last events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Go on with what comes, until no run is in progress any more.
    pub follow: bool,
}

impl ReplayRequest {
    /// Validates a query; what it does not know is ignored.
    ///
    /// # Errors
    /// `follow` is neither true nor false.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        let mut request = Self::default();
        for pair in query.split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("follow", "" | "1" | "true") => request.follow = true,
                ("follow", "0" | "false") => request.follow = false,
                ("follow", other) => return Err(InvalidRequest::value("follow", "true or false", other)),
                _ => {}
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_is_asked_for_in_the_usual_ways_and_nothing_else_is_taken_for_it() {
        let follow = |query| ReplayRequest::parse(query).map(|request| request.follow);
        for query in ["follow", "follow=1", "x=y&follow=true"] {
            assert_eq!(follow(query), Ok(true));
        }
        for query in ["", "follow=0", "follow=false", "followed=1"] {
            assert_eq!(follow(query), Ok(false));
        }
        let refusal = follow("follow=yes").unwrap_err().to_string();
        assert_eq!(refusal, r#"follow: expected true or false, got "yes""#);
    }
}
