//! `/v1/sandboxes/{id}/pty…`: what is asked, and the answers that are no streams.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pod_types::PtyId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, InvalidRequest, Whole, wrong};
use crate::openapi::PtyIdText;

mod schema;

pub(crate) use schema::PtyCreateObject;

/// A window that is not asked for has this size.
const COLS_DEFAULT: u16 = 80;
const ROWS_DEFAULT: u16 = 24;
/// Most columns, and most rows.
const SIDE_MAX: u16 = 4096;

/// Most bytes of arguments and environment together; Linux takes single ones of 128 KiB.
const PROGRAM_BYTES_MAX: usize = 200 * 1024;
/// Longest input of one request, in bytes.
const INPUT_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of one read, and its default; and its longest wait, in milliseconds.
const READ_BYTES_MAX: u32 = 65_536;
const READ_MS_MAX: u32 = 30_000;
const READ_MS_DEFAULT: u32 = 10_000;

/// Base64 as it is read: with its padding, and nothing in the bits that are left over.
pub(crate) const BASE64_PATTERN: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

const SHELL_XOR_ARGV: &str = "exactly one of shellCmd, a string, and argv, an array of strings";
const PAIRS: &str = "an array of [name, value] pairs of strings";

/// A program on a new terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtyCreateRequest {
    pub program: PtyProgram,
    pub cols: u16,
    pub rows: u16,
    /// Added to the sandbox's own environment.
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PtyProgram {
    /// Run by `bash -lc`.
    Shell(String),
    /// Executed as it is.
    Arguments(Vec<String>),
}

/// Input of a terminal, as if typed.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct PtyInputRequest {
    /// Base64 of at most 1 MiB.
    #[schemars(
        rename = "data_b64",
        with = "String",
        extend("contentEncoding" = "base64", "pattern" = BASE64_PATTERN, "maxLength" = INPUT_BYTES_MAX.div_ceil(3) * 4)
    )]
    pub data: Vec<u8>,
}

/// The new size of a terminal's window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PtyResizeRequest {
    #[schemars(range(min = 1, max = SIDE_MAX))]
    pub cols: u16,
    #[schemars(range(min = 1, max = SIDE_MAX))]
    pub rows: u16,
}

/// Which output is wanted. `{}` and an empty body are legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PtyReadRequest {
    /// Number of the first byte wanted; 0 when absent.
    #[schemars(with = "Option<u64>")]
    pub since_seq: u64,
    /// 65536 when absent, and at most.
    #[schemars(with = "Option<u32>", range(min = 1, max = u32::MAX))]
    pub max_bytes: u32,
    /// How long to wait for output, in milliseconds; 10000 when absent, 30000 at most.
    #[schemars(with = "Option<u32>", range(min = 0, max = u32::MAX))]
    pub timeout_ms: u32,
}

/// Output of a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PtyReadAnswer {
    /// The bytes, in base64.
    pub data_b64: String,
    /// Number of the byte after the last one here: the next `since_seq`.
    pub next_seq: u64,
    /// Set once the program has exited and all of its output has been read.
    pub exit_code: Option<i32>,
    /// Whether bytes from `since_seq` on are missing, because they are not kept any more.
    pub dropped: bool,
}

/// One terminal of a sandbox's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PtyInfo {
    #[schemars(with = "PtyIdText")]
    pub pty_id: PtyId,
    /// What runs there, for people.
    pub cmd_label: String,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// `null` while it runs.
    pub exit_code: Option<i32>,
}

impl PtyCreateRequest {
    /// A program in a window of the default size.
    #[must_use]
    pub fn new(program: PtyProgram) -> Self {
        Self {
            program,
            cols: COLS_DEFAULT,
            rows: ROWS_DEFAULT,
            env: Vec::new(),
            cwd: None,
        }
    }

    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let shell = fields.text("shellCmd", "a string, run by `bash -lc`")?;
        let program = match (shell, fields.take("argv")) {
            (Some(command), None) => PtyProgram::Shell(command),
            (None, Some(argv)) => PtyProgram::Arguments(texts(&argv)?),
            (None, None) => {
                return Err(InvalidRequest::Missing {
                    field: "shellCmd",
                    expected: SHELL_XOR_ARGV.to_owned(),
                });
            }
            (Some(_), Some(argv)) => return Err(wrong("argv", SHELL_XOR_ARGV, &argv)),
        };
        let request = Self {
            program,
            cols: side(&mut fields, "cols", "columns")?.unwrap_or(COLS_DEFAULT),
            rows: side(&mut fields, "rows", "rows")?.unwrap_or(ROWS_DEFAULT),
            env: fields
                .take("env")
                .map(|env| pairs(&env))
                .transpose()?
                .unwrap_or_default(),
            cwd: fields.text("cwd", "a path, as a string")?,
        };
        request.check()
    }

    /// Together these go into one message, so together they are bounded.
    fn check(self) -> Result<Self, InvalidRequest> {
        let field = match &self.program {
            PtyProgram::Shell(_) => "shellCmd",
            PtyProgram::Arguments(_) => "argv",
        };
        let program: usize = match &self.program {
            PtyProgram::Shell(command) => command.len(),
            PtyProgram::Arguments(arguments) => arguments.iter().map(|text| text.len() + 8).sum(),
        };
        let env: usize = self
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len() + 16)
            .sum();
        let cwd = self.cwd.as_deref().map_or(0, str::len);
        let total = program + env + cwd;
        if total > PROGRAM_BYTES_MAX {
            let expected = format!("at most {PROGRAM_BYTES_MAX} bytes together with env and cwd");
            return Err(wrong(field, &expected, &Value::from(format!("{total} bytes"))));
        }
        Ok(self)
    }
}

impl Serialize for PtyCreateRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "shellCmd", skip_serializing_if = "Option::is_none")]
            shell: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            argv: Option<&'a [String]>,
            cols: u16,
            rows: u16,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            env: &'a [(String, String)],
            #[serde(skip_serializing_if = "Option::is_none")]
            cwd: Option<&'a str>,
        }
        let (shell, argv) = match &self.program {
            PtyProgram::Shell(command) => (Some(command.as_str()), None),
            PtyProgram::Arguments(arguments) => (None, Some(arguments.as_slice())),
        };
        Body {
            shell,
            argv,
            cols: self.cols,
            rows: self.rows,
            env: &self.env,
            cwd: self.cwd.as_deref(),
        }
        .serialize(serializer)
    }
}

impl PtyInputRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        const EXPECTED: &str = "a string of base64";
        let text = Fields::parse(body)?.text("data_b64", EXPECTED)?;
        let text = text.ok_or_else(|| InvalidRequest::Missing {
            field: "data_b64",
            expected: EXPECTED.to_owned(),
        })?;
        let data = STANDARD
            .decode(&text)
            .map_err(|_| InvalidRequest::value("data_b64", EXPECTED, &text))?;
        if data.len() > INPUT_BYTES_MAX {
            let expected = format!("at most {INPUT_BYTES_MAX} bytes at once");
            return Err(InvalidRequest::value(
                "data_b64",
                &expected,
                &format!("{} bytes", data.len()),
            ));
        }
        Ok(Self { data })
    }
}

impl Serialize for PtyInputRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Body {
            data_b64: String,
        }
        Body {
            data_b64: STANDARD.encode(&self.data),
        }
        .serialize(serializer)
    }
}

impl PtyResizeRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let mut required = |field, unit| {
            side(&mut fields, field, unit)?.ok_or_else(|| InvalidRequest::Missing {
                field,
                expected: sides(unit).to_string(),
            })
        };
        Ok(Self {
            cols: required("cols", "columns")?,
            rows: required("rows", "rows")?,
        })
    }
}

impl PtyReadRequest {
    /// Validates a body. Sizes and times beyond what is given are cut to it.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let whole = |unit, min, max| Whole { unit, min, max };
        let mut fields = Fields::parse(body)?;
        let small = |number: Option<u64>, default: u32, max: u32| {
            number.map_or(default, |number| u32::try_from(number).unwrap_or(max).min(max))
        };
        let since = fields.whole("since_seq", &whole("bytes", 0, u64::MAX))?;
        let bytes = fields.whole("max_bytes", &whole("bytes", 1, u32::MAX.into()))?;
        let time = fields.whole("timeout_ms", &whole("milliseconds", 0, u32::MAX.into()))?;
        Ok(Self {
            since_seq: since.unwrap_or(0),
            max_bytes: small(bytes, READ_BYTES_MAX, READ_BYTES_MAX),
            timeout_ms: small(time, READ_MS_DEFAULT, READ_MS_MAX),
        })
    }
}

fn sides(unit: &'static str) -> Whole {
    Whole {
        unit,
        min: 1,
        max: SIDE_MAX.into(),
    }
}

fn side(fields: &mut Fields, field: &'static str, unit: &'static str) -> Result<Option<u16>, InvalidRequest> {
    let number = fields.whole(field, &sides(unit))?;
    // The range has been checked already, so nothing is lost.
    Ok(number.map(|number| u16::try_from(number).unwrap_or(SIDE_MAX)))
}

fn texts(value: &Value) -> Result<Vec<String>, InvalidRequest> {
    const EXPECTED: &str = "an array of strings that begins with a program";
    let texts: Option<Vec<String>> = value
        .as_array()
        .and_then(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    texts
        .filter(|texts| texts.first().is_some_and(|program| !program.is_empty()))
        .ok_or_else(|| wrong("argv", EXPECTED, value))
}

fn pairs(value: &Value) -> Result<Vec<(String, String)>, InvalidRequest> {
    let pair = |pair: &Value| match pair.as_array()?.as_slice() {
        [name, value] => Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())),
        _ => None,
    };
    let pairs: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(pair).collect());
    pairs.ok_or_else(|| wrong("env", PAIRS, value))
}

#[cfg(test)]
mod tests;
