//! Files of a sandbox.
//!
//! Content is streamed: what is read comes as a reader, and what is written is taken from one. A reader that ends without
//! an error has given all there is.

use std::io::Read;

use api::{DirectoryListing, FileInfo, FileKind, UnpackedArchive, percent_encoded};
use pod_types::SandboxId;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{ClientError, Refusal};
use crate::transport::Call;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub mode: Option<u32>,
    /// In bytes, where it is known.
    pub length: Option<u64>,
}

impl Client {
    /// What is at a path, links followed.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::is_not_found`] when nothing is.
    pub fn file_info(&self, id: SandboxId, path: &[u8]) -> Result<FileInfo, ClientError> {
        let path = url(id, path, "&stat=true&follow=true");
        let call = Call::new("GET", &path, "looking at a file");
        self.transport().json(call, None::<&()>)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// [`ClientError`] when it cannot be read; the reader fails when it breaks off later.
    pub fn read_file(&self, id: SandboxId, path: &[u8]) -> Result<impl Read + Send + use<>, ClientError> {
        let path = url(id, path, "");
        let call = Call::new("GET", &path, "reading a file");
        Ok(self.transport().download(call)?.into_body().into_reader())
    }

    /// What is below a directory, as a tar archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read_tree(&self, id: SandboxId, path: &[u8]) -> Result<impl Read + Send + use<>, ClientError> {
        let path = url(id, path, "&recursive=true&format=tar");
        let call = Call::new("GET", &path, "reading a directory").with_a_boot();
        Ok(self.transport().download(call)?.into_body().into_reader())
    }

    /// Puts new content in the place of a file, all at once; directories on the way are made.
    ///
    /// # Errors
    /// [`ClientError`]; the old content is as it was then.
    pub fn write_file(
        &self,
        id: SandboxId,
        path: &[u8],
        options: WriteOptions,
        content: &mut dyn Read,
    ) -> Result<FileInfo, ClientError> {
        let mode = options
            .mode
            .map(|mode| format!("&mode={mode:04o}"))
            .unwrap_or_default();
        let path = url(id, path, &mode);
        let call = Call::new("PUT", &path, "writing a file");
        let kind = "application/octet-stream";
        let text = self.transport().upload(call, kind, options.length, content)?;
        self.parsed(call, &text)
    }

    /// Unpacks a tar archive below a directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`ClientError`]; what was unpacked before it stays.
    pub fn write_tree(
        &self,
        id: SandboxId,
        path: &[u8],
        archive: &mut dyn Read,
    ) -> Result<UnpackedArchive, ClientError> {
        let path = url(id, path, "");
        let call = Call::new("PUT", &path, "writing a directory");
        let text = self
            .transport()
            .upload(call, "application/x-tar", None, archive)?;
        self.parsed(call, &text)
    }

    /// Everything in a directory.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list_files(&self, id: SandboxId, path: &[u8]) -> Result<DirectoryListing, ClientError> {
        // Of a file the same request would bring the content.
        if self.file_info(id, path)?.kind != FileKind::Directory {
            return Err(ClientError::Refused(Refusal {
                status: 409,
                code: "not_a_directory".to_owned(),
                text: "it is a file, not a directory".to_owned(),
                hint: None,
            }));
        }
        let mut whole = self.list_page(id, path, None)?;
        while let Some(next) = whole.next.take() {
            let page = self.list_page(id, path, Some(&next))?;
            whole.next = page.next.filter(|_| !page.entries.is_empty());
            whole.entries.extend(page.entries);
        }
        Ok(whole)
    }

    fn list_page(
        &self,
        id: SandboxId,
        path: &[u8],
        after: Option<&str>,
    ) -> Result<DirectoryListing, ClientError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let path = url(id, path, &format!("&limit={}{after}", api::LIST_ENTRIES_MAX));
        let call = Call::new("GET", &path, "listing a directory").with_a_boot();
        self.transport().json(call, None::<&()>)
    }

    fn parsed<T: DeserializeOwned>(&self, call: Call<'_>, text: &str) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|error| self.transport().not_podflare(call, error))
    }
}

fn url(id: SandboxId, path: &[u8], more: &str) -> String {
    format!("/v1/sandboxes/{id}/files?path={}{more}", percent_encoded(path))
}
