//! File requests as the tests ask them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agent_proto::files::{
    Expected, FileProblem, FileReply, FileRequest, FileStat, ListDirectory, Listed, Opened, Range, ReadFile,
    WriteFile,
};
use agent_proto::{Reply, Request};

use crate::rig::Host;

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

pub(crate) fn reading(path: &Path, range: Range) -> FileRequest {
    FileRequest::Read(ReadFile {
        path: bytes(path),
        range,
    })
}

pub(crate) fn writing(path: &Path) -> WriteFile {
    WriteFile {
        path: bytes(path),
        mode: None,
        parents: true,
        sync: false,
        expected: Expected::Anything,
        length: None,
    }
}

impl Host {
    pub(crate) fn ask(&mut self, request: FileRequest) {
        self.send(&Request::File(request));
    }

    /// The problem with a request that is refused at once, after which the connection is free.
    #[track_caller]
    pub(crate) fn problem(&mut self, request: FileRequest) -> FileProblem {
        self.ask(request);
        let problem = self.refusal();
        self.send(&Request::Ping);
        assert_eq!(self.reply(), Reply::Done);
        problem
    }

    #[track_caller]
    pub(crate) fn refusal(&mut self) -> FileProblem {
        match self.reply() {
            Reply::File(FileReply::Refused(refusal)) => {
                assert!(!refusal.message.is_empty());
                refusal.problem
            }
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    #[track_caller]
    pub(crate) fn opened(&mut self) -> Opened {
        match self.reply() {
            Reply::File(FileReply::Opened(opened)) => opened,
            other => panic!("{other:?} instead of an open file"),
        }
    }

    /// Content to its end.
    #[track_caller]
    pub(crate) fn content(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            match self.reply() {
                Reply::File(FileReply::Data(bytes)) => content.extend(bytes),
                Reply::Done => return content,
                other => panic!("{other:?} in the content"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn read(&mut self, path: &Path, range: Range) -> (Opened, Vec<u8>) {
        self.ask(reading(path, range));
        (self.opened(), self.content())
    }

    /// Begins a write; the agent has said that it can be.
    #[track_caller]
    pub(crate) fn begin_write(&mut self, wanted: WriteFile) {
        self.ask(FileRequest::Write(wanted));
        assert_eq!(self.reply(), Reply::Done);
    }

    pub(crate) fn pieces(&mut self, content: &[u8]) {
        for piece in content.chunks(agent_proto::files::FILE_PIECE_MAX) {
            self.ask(FileRequest::Piece(piece.to_vec()));
        }
    }

    #[track_caller]
    pub(crate) fn commit(&mut self) -> FileStat {
        self.ask(FileRequest::Commit);
        match self.reply() {
            Reply::File(FileReply::Stat(stat)) => stat,
            other => panic!("{other:?} after a commit"),
        }
    }

    #[track_caller]
    pub(crate) fn write(&mut self, wanted: WriteFile, content: &[u8]) -> FileStat {
        self.begin_write(wanted);
        self.pieces(content);
        self.commit()
    }

    #[track_caller]
    pub(crate) fn list(&mut self, path: &Path, after: &str, limit: u32) -> (Vec<Listed>, bool) {
        self.ask(FileRequest::List(ListDirectory {
            path: bytes(path),
            after: after.as_bytes().to_vec(),
            limit,
        }));
        let mut all = Vec::new();
        loop {
            match self.reply() {
                Reply::File(FileReply::Entries(entries)) => all.extend(entries),
                Reply::File(FileReply::ListEnd { more }) => return (all, more),
                other => panic!("{other:?} in a listing"),
            }
        }
    }
}

/// Names in a directory, as anybody sees them.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
