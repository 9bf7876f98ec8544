//! Requests and connections.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::families::{Families, HistogramFamily, Labels};
use super::histogram::{Histogram, LATENCY};

/// What methods are called here; everything else is `other`.
const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "other",
];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Where a request went that no route took.
const UNMATCHED: &str = "unmatched";

#[derive(Debug)]
pub(crate) struct HttpMetrics {
    families: RequestFamilies,
    /// Of requests that ended before any route was found for them.
    unmatched: Arc<RouteMetrics>,
    /// By template; as many as there are routes in the code.
    routes: Mutex<Vec<(String, Arc<RouteMetrics>)>>,
    pub(crate) connections: Gauge,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
}

#[derive(Clone)]
struct RequestFamilies {
    requests: Family<Labels, Counter>,
    durations: HistogramFamily,
}

/// Counters of one route. Those that were never needed do not exist.
pub(crate) struct RouteMetrics {
    template: String,
    families: RequestFamilies,
    methods: [Method; METHODS.len()],
}

#[derive(Default)]
struct Method {
    duration: OnceLock<Histogram>,
    statuses: [OnceLock<Counter>; STATUSES.len()],
}

impl HttpMetrics {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let requests = RequestFamilies {
            requests: families.counter_family(
                "http_requests",
                "Requests answered, by route template, method and class of status",
            ),
            durations: families.histogram_family(
                "http_request_duration_seconds",
                "From a request's head to the head of its response",
                LATENCY,
            ),
        };
        Self {
            unmatched: Arc::new(RouteMetrics::new(UNMATCHED, requests.clone())),
            families: requests,
            routes: Mutex::default(),
            connections: families.gauge("http_connections", "Connections of clients that are open"),
            received_bytes: families.counter("http_received_bytes", "Bytes received from clients"),
            sent_bytes: families.counter("http_sent_bytes", "Bytes sent to clients"),
        }
    }

    pub(crate) fn unmatched(&self) -> &Arc<RouteMetrics> {
        &self.unmatched
    }

    /// The counters of a route, by its template. Not for each request: the caller keeps them.
    pub(crate) fn route(&self, template: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, metrics)) = routes.iter().find(|(known, _)| known == template) {
            return Arc::clone(metrics);
        }
        let metrics = Arc::new(RouteMetrics::new(template, self.families.clone()));
        routes.push((template.to_owned(), Arc::clone(&metrics)));
        metrics
    }
}

impl RouteMetrics {
    fn new(template: &str, families: RequestFamilies) -> Self {
        Self {
            template: template.to_owned(),
            families,
            methods: Default::default(),
        }
    }

    /// As it is in the code, with names in braces for what clients fill in.
    pub(crate) fn template(&self) -> &str {
        &self.template
    }

    pub(crate) fn answered(&self, method: &str, status: u16, took: Duration) {
        let name = METHODS
            .iter()
            .find(|known| **known == method)
            .unwrap_or(&METHODS[METHODS.len() - 1]);
        let index = METHODS.iter().position(|known| known == name).unwrap_or(0);
        let method = &self.methods[index];
        let class = usize::from((status / 100).clamp(1, 5)) - 1;
        let labels = || vec![("route", self.template.clone()), ("method", (*name).to_owned())];
        let count = method.statuses[class].get_or_init(|| {
            let mut labels = labels();
            labels.push(("status", STATUSES[class].to_owned()));
            self.families.requests.get_or_create(&labels).clone()
        });
        count.inc();
        let duration = method
            .duration
            .get_or_init(|| self.families.durations.get_or_create(&labels()).clone());
        duration.observe(took);
    }
}

impl fmt::Debug for RequestFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFamilies").finish_non_exhaustive()
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics")
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}
