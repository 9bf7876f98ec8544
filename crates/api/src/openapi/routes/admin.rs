//! Tenants, everybody's usage, the audit log and the database, for the operator.

use serde_json::json;

use crate::admin::{
    AUDIT_LIMIT_MAX, AuditPage, NAME_LEN_MAX, NewTenantRequest, SetTenantRequest, StoreReport, TenantInfo,
    TenantList, USAGE_DAYS_MAX, UsageList,
};
use crate::capacity::Capacity;
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::openapi::parameters::QueryType;

const TAG: &str = "admin";

const TENANTS: &str = "/v1/admin/tenants";
const TENANT: &str = "/v1/admin/tenants/{name}";

/// What every call that asks the database can answer.
pub(super) const STORE: [ErrorCode; 2] = [ErrorCode::StoreFailed, ErrorCode::HostBusy];

pub(super) fn operations() -> Vec<Operation> {
    let mut all = tenants();
    all.extend(ledger());
    all
}

fn tenants() -> Vec<Operation> {
    vec![
        Operation::new(Method::Get, TENANTS, "list_tenants", TAG, "List tenants")
            .operators()
            .answers(200, "All of them.", Content::json::<TenantList>()),
        Operation::new(Method::Post, TENANTS, "create_tenant", TAG, "Create a tenant")
            .operators()
            .json_body::<NewTenantRequest>(
                true,
                json!({ "name": "acme", "tier": "pro", "limits": { "sandboxes": 20, "runs": null } }),
            )
            .answers(200, "It is there.", Content::json::<TenantInfo>())
            .fails(&[ErrorCode::TenantExists, ErrorCode::StateConflict])
            .fails(&STORE),
        Operation::new(Method::Get, TENANT, "get_tenant", TAG, "Show a tenant")
            .operators()
            .answers(200, "What is known of it.", Content::json::<TenantInfo>())
            .fails(&[ErrorCode::TenantNotFound]),
        Operation::new(Method::Patch, TENANT, "set_tenant", TAG, "Change a tenant")
            .operators()
            .describe(
                "`limits` takes the place of all limits that differ from the tier's. It counts from now on.",
            )
            .json_body::<SetTenantRequest>(false, json!({ "tier": "scale", "limits": {} }))
            .answers(200, "It is changed.", Content::json::<TenantInfo>())
            .fails(&[ErrorCode::TenantNotFound])
            .fails(&STORE),
        Operation::new(Method::Delete, TENANT, "delete_tenant", TAG, "Remove a tenant")
            .operators()
            .describe("Its keys go with it. A tenant that has sandboxes is refused, unless it is forced.")
            .query(
                "force",
                QueryType::Word(&["true", "false"]),
                "Delete its sandboxes first.",
            )
            .answers(204, "It is gone.", Content::Nothing)
            .fails(&[ErrorCode::TenantNotFound, ErrorCode::StateConflict])
            .fails(&STORE),
    ]
}

fn ledger() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::Get,
            "/v1/admin/usage",
            "get_all_usage",
            TAG,
            "Show what all tenants used",
        )
        .operators()
        .query(
            "days",
            QueryType::Whole(1, USAGE_DAYS_MAX),
            "How many days (UTC) back, today included; 30 when absent.",
        )
        .answers(200, "Of each tenant.", Content::json::<UsageList>())
        .fails(&[ErrorCode::InvalidField])
        .fails(&STORE),
        Operation::new(
            Method::Get,
            "/v1/admin/audit",
            "get_audit",
            TAG,
            "Read the audit log",
        )
        .operators()
        .query(
            "limit",
            QueryType::Whole(1, AUDIT_LIMIT_MAX),
            "Most entries of the answer; 100 when absent.",
        )
        .query(
            "before",
            QueryType::Whole(1, i64::MAX.unsigned_abs()),
            "Only entries older than this one: the `next_before` of the page before.",
        )
        .query(
            "tenant",
            QueryType::Text(NAME_LEN_MAX),
            "Only what is about this tenant.",
        )
        .query("action", QueryType::Text(NAME_LEN_MAX), "Only such entries.")
        .answers(200, "A page of it.", Content::json::<AuditPage>())
        .fails(&[ErrorCode::InvalidField])
        .fails(&STORE),
        Operation::new(
            Method::Get,
            "/v1/admin/store",
            "check_store",
            TAG,
            "Check the database",
        )
        .operators()
        .describe("Reads all of it.")
        .answers(200, "What was found.", Content::json::<StoreReport>())
        .fails(&STORE),
        Operation::new(
            Method::Get,
            "/v1/admin/capacity",
            "get_all_capacity",
            TAG,
            "Show what is left, for all tenants",
        )
        .operators()
        .answers(
            200,
            "As for a tenant, with the sandboxes and runs of all.",
            Content::json::<Capacity>(),
        ),
    ]
}
