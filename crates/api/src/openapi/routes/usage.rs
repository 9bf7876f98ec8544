//! What tenants have used.

use crate::admin::{USAGE_DAYS_MAX, UsageReport};
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::openapi::parameters::QueryType;

const TAG: &str = "usage";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Get, "/v1/usage", "get_usage", TAG, "Show what was used")
            .describe("By the tenant of the key, to within a minute.")
            .query(
                "days",
                QueryType::Whole(1, USAGE_DAYS_MAX),
                "How many days (UTC) back, today included; 30 when absent.",
            )
            .answers(200, "In all, and day by day.", Content::json::<UsageReport>())
            .fails(&[
                ErrorCode::InvalidField,
                ErrorCode::StoreFailed,
                ErrorCode::HostBusy,
            ]),
    ]
}
