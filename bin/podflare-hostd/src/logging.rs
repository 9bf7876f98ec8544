//! Logs go to standard error: text for people, JSON for collectors. A filter, e.g. `info,host=debug`, says what.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use settings::hostd::LogFormat;

pub(crate) fn start(format: LogFormat, filter: Option<&str>) {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = match filter {
        Some(filter) => builder.parse_lossy(filter),
        None => builder.from_env_lossy(),
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().with_current_span(true).init(),
    }
}
