//! What the REPL does for its template before it is ready, as Python code.

use crate::services::Config;

/// A name the driver forgets before the first run.
const FORGOTTEN: &str = "_podflare";

/// Imports, then the warm-up. `json` is loaded without a name, as if nothing had been imported; `numpy as np` stays
/// bound. Statements of the warm-up see the names and leave none.
pub(super) fn code(config: &Config) -> String {
    let mut code = String::new();
    for import in &config.imports {
        code.push_str("import ");
        code.push_str(import);
        if !import.contains(" as ") {
            code.push_str(" as ");
            code.push_str(FORGOTTEN);
        }
        code.push('\n');
    }
    for statement in &config.warm_up {
        code.push_str(&format!("def {FORGOTTEN}(): {statement}\n{FORGOTTEN}()\n"));
    }
    code
}
