//! Resolves synthetic module trees.

use super::*;
use crate::elf::testing::object_with_section;

/// Writes `kernel/<path>.ko` for each pair of path and modinfo text, and `modules.builtin`.
pub(crate) fn write_tree(directory: &Path, modules: &[(&str, &str)], builtin: &[&str]) {
    for (path, info) in modules {
        let file = directory.join("kernel").join(format!("{path}.ko"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, object_with_section(".modinfo", info.as_bytes())).unwrap();
    }
    fs::create_dir_all(directory.join("kernel")).unwrap();
    let lines: String = builtin.iter().map(|name| format!("kernel/{name}.ko\n")).collect();
    fs::write(directory.join("modules.builtin"), lines).unwrap();
}

fn order(modules: &[(&str, &str)], builtin: &[&str], names: &[&str]) -> Result<Vec<String>, ModuleError> {
    let directory = tempfile::tempdir().unwrap();
    write_tree(directory.path(), modules, builtin);
    let modules = ModuleTree::open(directory.path()).unwrap().load_order(names)?;
    Ok(modules.into_iter().map(|module| module.name).collect())
}

#[test]
fn what_a_module_needs_comes_before_it_and_once() {
    let modules = [
        ("net/vmw_vsock/vsock", "name=vsock\0depends=\0"),
        (
            "net/vmw_vsock/vmw_vsock_virtio_transport_common",
            "depends=vsock\0",
        ),
        (
            "net/vmw_vsock/vmw_vsock_virtio_transport",
            "depends=vmw_vsock_virtio_transport_common,vsock\0",
        ),
    ];
    let order = order(&modules, &[], &["vmw_vsock_virtio_transport", "vsock"]).unwrap();
    assert_eq!(
        order,
        [
            "vsock",
            "vmw_vsock_virtio_transport_common",
            "vmw_vsock_virtio_transport"
        ]
    );
}

#[test]
fn names_are_the_same_with_hyphen_and_underscore() {
    let modules = [
        ("char/virtio-rng", "depends=rng-core\0"),
        ("char/rng_core", "depends=\0"),
    ];
    assert_eq!(
        order(&modules, &[], &["virtio_rng"]).unwrap(),
        ["rng_core", "virtio_rng"]
    );
    assert_eq!(
        order(&modules, &[], &["virtio-rng"]).unwrap(),
        ["rng_core", "virtio_rng"]
    );
}

#[test]
fn soft_dependencies_are_taken_when_they_exist() {
    let modules = [
        ("a", "softdep=pre: early absent post: late\0depends=\0"),
        ("early", "depends=\0"),
        ("late", "depends=a\0"),
    ];
    assert_eq!(order(&modules, &[], &["a"]).unwrap(), ["early", "a", "late"]);
}

#[test]
fn built_in_modules_need_no_file() {
    let modules = [("blk", "depends=virtio,virtio-ring\0")];
    let builtin = ["drivers/virtio/virtio", "drivers/virtio/virtio_ring"];
    assert_eq!(order(&modules, &builtin, &["blk", "virtio"]).unwrap(), ["blk"]);
}

#[test]
fn a_missing_module_is_named_with_who_needs_it() {
    let error = order(&[("a", "depends=gone\0")], &[], &["a"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no module gone") && error.contains("a needs it"),
        "{error}"
    );
    let error = order(&[], &[], &["nothing"]).unwrap_err().to_string();
    assert!(
        error.contains("no module nothing") && !error.contains("needs"),
        "{error}"
    );
}

#[test]
fn circular_wishes_end() {
    let modules = [
        ("a", "softdep=pre: b\0depends=\0"),
        ("b", "softdep=pre: a\0depends=\0"),
    ];
    assert_eq!(order(&modules, &[], &["a"]).unwrap(), ["b", "a"]);
}
