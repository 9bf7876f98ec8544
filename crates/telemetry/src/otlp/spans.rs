//! Between our trace contexts and the SDK's.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::TraceContext;

/// Whether spans go anywhere. Where not, looking for their contexts is not worth its time.
static EXPORTING: AtomicBool = AtomicBool::new(false);

pub(super) fn begin() {
    EXPORTING.store(true, Ordering::Relaxed);
}

/// Makes a span the child of one elsewhere. To be called before it is entered.
pub fn join(span: &Span, parent: &TraceContext) {
    if !EXPORTING.load(Ordering::Relaxed) {
        return;
    }
    let (trace_id, span_id, flags) = parent.parts();
    let remote = SpanContext::new(
        TraceId::from_bytes(trace_id),
        SpanId::from_bytes(span_id),
        TraceFlags::new(flags),
        true,
        TraceState::NONE,
    );
    // Fails for a span that the filter has left out.
    drop(span.set_parent(Context::new().with_remote_span_context(remote)));
}

/// Where a span is in its trace; `None` when it is sent nowhere.
#[must_use]
pub fn context_of(span: &Span) -> Option<TraceContext> {
    if !EXPORTING.load(Ordering::Relaxed) {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let place = span.span_context();
    place.is_valid().then(|| {
        TraceContext::new(
            place.trace_id().to_bytes(),
            place.span_id().to_bytes(),
            place.trace_flags().to_u8(),
        )
    })
}
