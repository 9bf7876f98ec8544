//! `/v1/sandboxes/{id}/egress/log`.

use std::sync::Arc;

use api::{EgressLogEntry, EgressLogPage, EgressLogQuery, EgressProtocol, EgressVerdict};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::{Extension, Json};
use egress::Policy;
use net_proto::{LogEntry, Protocol, Verdict};

use super::error::{Failed, no_sandbox};
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::host::Host;

pub(super) async fn log(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<EgressLogPage>, Failed> {
    let query = EgressLogQuery::parse(request.uri().query().unwrap_or_default())?;
    let sandbox = host.find(sandbox_id(&request)?, tenant).ok_or_else(no_sandbox)?;
    let max = u16::try_from(query.limit).unwrap_or(u16::MAX);
    let questions = &host.network.questions;
    let page = questions.log(sandbox.wire.id(), query.after, max).await?;
    Ok(Json(EgressLogPage {
        entries: page.entries.into_iter().map(entry).collect(),
        oldest: page.oldest,
        newest: page.newest,
    }))
}

/// A policy in a few words, for the audit log.
pub(super) fn summary(policy: &Policy) -> String {
    match policy {
        Policy::Open => "open".to_owned(),
        Policy::Closed => "closed".to_owned(),
        Policy::List(list) => format!("{} allowed, {} denied", list.allow.len(), list.deny.len()),
    }
}

fn entry(entry: LogEntry) -> EgressLogEntry {
    EgressLogEntry {
        seq: entry.seq,
        at_ms: entry.at_ms,
        name: entry.name,
        address: entry.address.map(|address| address.to_string()),
        port: entry.port,
        protocol: match entry.protocol {
            Protocol::Tcp => EgressProtocol::Tcp,
            Protocol::Udp => EgressProtocol::Udp,
            Protocol::Dns => EgressProtocol::Dns,
        },
        verdict: match entry.verdict {
            Verdict::Allowed => EgressVerdict::Allowed,
            Verdict::Denied => EgressVerdict::Denied,
            Verdict::Failed => EgressVerdict::Failed,
        },
        reason: entry.reason,
        sent_bytes: entry.bytes_up,
        received_bytes: entry.bytes_down,
        times: entry.times,
        open: entry.open,
    }
}
