//! Everything this program says, and in which form.

mod meter;
mod paint;
mod printer;
mod progress;
mod words;

pub(crate) use meter::Meter;
pub(crate) use paint::Paint;
pub(crate) use printer::{Form, Printer, Show};
pub(crate) use progress::Steps;
pub(crate) use words::{
    bytes, duration, mebibytes, pool_state_name, since, source_name, state_name, table, time_left,
};
