//! The document itself and its page.

use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};

const TAG: &str = "documents";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Get, "/openapi.json", "get_openapi", TAG, "This document")
            .open()
            .answers(200, "OpenAPI 3.1.", Content::Object),
        Operation::new(Method::Get, "/docs", "get_docs", TAG, "This document for people")
            .open()
            .answers(
                200,
                "A page without scripts.",
                Content::Text("text/html; charset=utf-8"),
            ),
    ]
}
