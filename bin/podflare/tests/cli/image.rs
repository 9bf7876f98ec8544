//! `image`: the templates there are. Building them takes package mirrors and is shown by the end-to-end tests.

use serde_json::{Value, json};

use crate::support::Cli;

#[test]
fn the_templates_are_listed_with_what_they_are() {
    let finished = Cli::alone().run(&["image", "ls", "--json"]);
    let listing: Value = serde_json::from_str(&finished.stdout).unwrap();
    let templates = listing["templates"].as_array().unwrap();
    let names: Vec<_> = templates.iter().map(|template| &template["name"]).collect();
    assert_eq!(names, ["default", "python-datasci"]);
    assert_eq!(
        templates[1]["offered"],
        json!(false),
        "no host runs here: {listing}"
    );
    let words = Cli::alone().run(&["image", "ls"]).stdout;
    assert!(words.contains("pandas"), "{words}");
}

#[test]
fn a_misspelt_template_is_a_usage_error_that_names_those_there_are() {
    for arguments in [
        &["image", "build", "python-science"][..],
        &["up", "--port", "0", "--template", "python-science"],
    ] {
        let cli = Cli::alone();
        let finished = cli.run(arguments);
        assert_eq!(finished.status, 2, "{finished:?}");
        assert!(
            finished.stderr.contains("default, python-datasci"),
            "{finished:?}"
        );
        assert!(!cli.home().join(".cache").exists(), "nothing was built");
    }
}
