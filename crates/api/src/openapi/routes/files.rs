//! Files of a sandbox.

use crate::error::ErrorCode;
use crate::files::{
    DirectoryListing, FILE_PATH_BYTES_MAX, FileChange, FileInfo, LIST_ENTRIES_MAX, UnpackedArchive,
};
use crate::openapi::content::Content;
use crate::openapi::operation::{Header, Method, Operation};
use crate::openapi::parameters::QueryType;

const TAG: &str = "files";

const FILES: &str = "/v1/sandboxes/{id}/files";

const OCTETS: &str = "application/octet-stream";
const TAR: &str = "application/x-tar";

const PATH: &str = "Absolute, or relative to `/root`. Percent-decoded to bytes, any but NUL; `+` is a blank.";

/// What every route of files can answer.
const COMMON: [ErrorCode; 15] = [
    ErrorCode::InvalidField,
    ErrorCode::NameTooLong,
    ErrorCode::SandboxNotFound,
    ErrorCode::FileNotFound,
    ErrorCode::SandboxNotReady,
    ErrorCode::IsADirectory,
    ErrorCode::NotADirectory,
    ErrorCode::SpecialFile,
    ErrorCode::NotPermitted,
    ErrorCode::TooManyLinks,
    ErrorCode::FileChanged,
    ErrorCode::DiskFull,
    ErrorCode::TooManyTransfers,
    ErrorCode::SandboxFailed,
    ErrorCode::AgentFailed,
];

const ETAG: Header = Header {
    name: "ETag",
    description: "The version of the file; changes with every change.",
};
const LAST_MODIFIED: Header = Header {
    name: "Last-Modified",
    description: "Last change of the content, of a file.",
};
const ACCEPT_RANGES: Header = Header {
    name: "Accept-Ranges",
    description: "`bytes`, of a file whose size is known.",
};
const CONTENT_RANGE: Header = Header {
    name: "Content-Range",
    description: "Which bytes these are, and how many the file has.",
};
const KIND: Header = Header {
    name: "X-Podflare-Kind",
    description: "What the path is: `file` or `directory`.",
};
const MODE: Header = Header {
    name: "X-Podflare-Mode",
    description: "Permissions of a file, in octal.",
};

pub(super) fn operations() -> Vec<Operation> {
    vec![read(), write(), make_directory(), remove(), watch()]
}

fn read() -> Operation {
    on(Method::Get, FILES, "read_file", "Read a file or a directory")
        .describe(
            "A file's content, or what is in a directory, sorted by name. Links are followed. Files that the kernel makes \
             up come without a length. A file that changes while it is sent breaks the connection off: what a response \
             announces is whole. `HEAD` says the same without the content. A 416 has \
             `Content-Range: bytes */SIZE`.",
        )
        .query("stat", QueryType::Flag, "Tell about the file itself, as in a listing, instead of reading it.")
        .query("follow", QueryType::Flag, "With `stat`: about what a link leads to.")
        .query("format", QueryType::Word(&["tar"]), "A tree, or one file, as a tar archive with relative names.")
        .query("recursive", QueryType::Flag, "The same; only together with `format=tar`.")
        .query(
            "limit",
            QueryType::Whole(1, LIST_ENTRIES_MAX as u64),
            "Of a directory: most entries of the answer; 1000 when absent.",
        )
        .query(
            "after",
            QueryType::Text(FILE_PATH_BYTES_MAX),
            "Of a directory: the `next` of the listing before, as it is.",
        )
        .header("Range", "One range of bytes. Anything else counts as none.")
        .header("If-Range", "The range only of this version, by `ETag` or date; else the whole.")
        .header("If-None-Match", "Nothing when it is one of these versions.")
        .header("If-Modified-Since", "Nothing when it has not changed since.")
        .header("If-Match", "Only one of these versions.")
        .header("If-Unmodified-Since", "Only if it has not changed since.")
        .answers(
            200,
            "A file's bytes, a directory's entries, what `stat` asks for, or an archive.",
            Content::file::<DirectoryListing, FileInfo>(&[OCTETS, TAR]),
        )
        .with_header(ETAG)
        .with_header(LAST_MODIFIED)
        .with_header(ACCEPT_RANGES)
        .with_header(KIND)
        .with_header(MODE)
        .answers(206, "The range.", Content::Bytes(&[OCTETS]))
        .with_header(CONTENT_RANGE)
        .with_header(ETAG)
        .with_header(LAST_MODIFIED)
        .with_header(ACCEPT_RANGES)
        .with_header(KIND)
        .with_header(MODE)
        .answers(304, "You have this version.", Content::Nothing)
        .with_header(ETAG)
        .with_header(LAST_MODIFIED)
        .with_header(KIND)
        .with_header(MODE)
        .fails(&[ErrorCode::PreconditionFailed, ErrorCode::RangeNotSatisfiable])
}

fn write() -> Operation {
    on(Method::Put, FILES, "write_file", "Write a file, or unpack an archive")
        .describe(
            "All or nothing: until all of the new content is there, the old file is whole. A link is left, and what it \
             leads to is replaced. There is no limit but the sandbox's disk; with `Expect: 100-continue` what cannot be \
             written is refused before it is sent.\n\n\
             An archive, by its content type or `format=tar`, is unpacked below the path, which is made if it is missing; \
             each of its files takes its place whole.",
        )
        .query("mode", QueryType::Mode, "Permissions of the file; without it those of the one it replaces, or 0644.")
        .query("mkdirs", QueryType::Flag, "Make directories on the way; true when absent.")
        .query("sync", QueryType::Flag, "Answer when it is on the disk.")
        .query("format", QueryType::Word(&["tar"]), "The body is a tar archive, uncompressed.")
        .header("If-Match", "Only in the place of this version, by its `ETag`, or with `*` of any.")
        .header("If-None-Match", "`*`: only where nothing is yet.")
        .bytes_body(&[OCTETS, TAR])
        .answers(200, "The file, or what was unpacked.", Content::either::<FileInfo, UnpackedArchive>())
        .with_header(Header {
            name: "ETag",
            description: "The version that was written, of a file.",
        })
        .fails(&[ErrorCode::InvalidArchive, ErrorCode::PreconditionFailed, ErrorCode::DirectoryNotEmpty])
}

fn make_directory() -> Operation {
    on(Method::Post, FILES, "make_directory", "Make a directory")
        .describe("One that is there is left as it is.")
        .query("mode", QueryType::Mode, "Permissions; 0755 when absent.")
        .query(
            "mkdirs",
            QueryType::Flag,
            "Make directories on the way; true when absent.",
        )
        .answers(200, "It is there.", Content::json::<FileInfo>())
}

fn remove() -> Operation {
    on(
        Method::Delete,
        FILES,
        "remove_file",
        "Remove a file or a directory",
    )
    .describe("A link itself, not what it leads to.")
    .query(
        "recursive",
        QueryType::Flag,
        "A directory with all that is in it; else only an empty one.",
    )
    .answers(204, "It is gone.", Content::Nothing)
    .fails(&[ErrorCode::DirectoryNotEmpty])
}

fn watch() -> Operation {
    on(Method::Get, "/v1/sandboxes/{id}/files/watch", "watch_files", "Watch a file or a directory")
        .describe(
            "`ready` comes first; then a line for each change. Writes in quick succession may be one change. `overflow` \
             says that more happened than could be told. The stream of a directory ends when the directory is gone. At \
             most 8192 directories in one watch.",
        )
        .query("recursive", QueryType::Flag, "What is below its directories, too.")
        .answers(200, "The changes.", Content::lines::<FileChange>())
}

/// About one path.
fn on(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, TAG, summary)
        .query("path", QueryType::File, PATH)
        .fails(&COMMON)
}
