//! Prints an error and its sources on one line.
//!
//! No error of ours repeats its source in its own text, so the chain is joined here, once, at the edge
//! where it meets a person: `could not start the VM: cannot open the kernel: No such file or directory`.

use std::error::Error;
use std::fmt;

/// Displays an error followed by each of its sources, joined by `": "`.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot open the kernel")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn each_link_is_printed_once_from_the_outside_in() {
        let error = Outer(io::Error::other("disk on fire"));
        assert_eq!(
            ErrorChain(&error).to_string(),
            "cannot open the kernel: disk on fire"
        );
    }
}
