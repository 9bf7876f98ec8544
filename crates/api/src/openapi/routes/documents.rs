//! The document itself and its page.

use crate::error::ErrorCode;
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
        Operation::new(
            Method::Get,
            "/terminal",
            "get_terminal",
            TAG,
            "A terminal in the browser",
        )
        .open()
        .describe("The page itself holds no secret; it asks for a sandbox and a key.")
        .answers(
            200,
            "A page that opens a sandbox's terminal.",
            Content::Text("text/html; charset=utf-8"),
        )
        .fails(&[ErrorCode::ForeignOrigin]),
    ]
}
