//! The snippets the official client sends for upload and download.

use crate::rig::Rig;

#[test]
fn upload_echoes_nothing_and_download_gives_the_bytes_back() {
    let rig = Rig::new();
    let mut host = rig.host();
    // "hi\n" in base64, in the shape of contract section 6.
    let upload = "import base64, os\nos.makedirs(os.path.dirname('a/b/f') or '.', exist_ok=True)\n\
                  with open('a/b/f', 'wb') as _f:\n    _f.write(base64.b64decode('aGkK'))\n";
    host.python(upload).says("");
    let download = |path: &str| {
        format!(
            "import base64, sys\nwith open('{path}', 'rb') as _f:\n    \
             sys.stdout.write(base64.b64encode(_f.read()).decode())\n"
        )
    };
    host.python(&download("a/b/f")).says("aGkK");
    host.python(&download("none")).fails(1, "FileNotFoundError");
    assert_eq!(std::fs::read(rig.home().join("a/b/f")).unwrap(), b"hi\n");
    host.bash("find . -type f").says("./a/b/f\n");
}

#[test]
fn six_megabytes_survive_the_round_trip() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import os, base64, hashlib\nblob = os.urandom(6 << 20)\nopen('f', 'wb').write(blob)\nNone")
        .says("");
    let text = host.python("import sys\nwith open('f', 'rb') as _f:\n    sys.stdout.write(base64.b64encode(_f.read()).decode())\n");
    let upload = format!(
        "with open('g', 'wb') as _f:\n    _f.write(base64.b64decode('{}'))\n",
        text.out()
    );
    host.python(&upload).says("");
    host.python("open('g', 'rb').read() == blob").says("True\n");
}
