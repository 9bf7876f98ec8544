//! Registering metrics, with every label value they will ever have.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

use super::histogram::Histogram;

/// Names and values of labels. Looked up when a handle is made, never when it is used.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A number that is not whole.
pub(super) type Real = Gauge<f64, AtomicU64>;

/// Makes histograms of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds(&'static [f64]);

pub(super) type HistogramFamily = Family<Labels, Histogram, Bounds>;

/// A label, and all its values.
pub(super) type Values<'a> = (&'static str, &'a [&'a str]);

pub(super) struct Families<'a>(pub(super) &'a mut Registry);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0)
    }
}

impl Families<'_> {
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.0.register(name, help, counter.clone());
        counter
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.0.register(name, help, gauge.clone());
        gauge
    }

    pub(super) fn real(&mut self, name: &str, help: &str) -> Real {
        let gauge = Real::default();
        self.0.register(name, help, gauge.clone());
        gauge
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, bounds: &'static [f64]) -> Histogram {
        let histogram = Histogram::new(bounds);
        self.0.register(name, help, histogram.clone());
        histogram
    }

    /// One counter for each value, in their order.
    pub(super) fn counters(&mut self, name: &str, help: &str, (label, values): Values<'_>) -> Vec<Counter> {
        let family = self.counter_family(name, help);
        let one = |value: &&str| family.get_or_create(&vec![(label, (*value).to_owned())]).clone();
        values.iter().map(one).collect()
    }

    /// One row for each value of the first label, with a counter for each value of the second.
    pub(super) fn counter_grid(
        &mut self,
        name: &str,
        help: &str,
        (row, rows): Values<'_>,
        (column, columns): Values<'_>,
    ) -> Vec<Vec<Counter>> {
        let family = self.counter_family(name, help);
        let line = |first: &&str| {
            let one = |second: &&str| {
                let labels = vec![(row, (*first).to_owned()), (column, (*second).to_owned())];
                family.get_or_create(&labels).clone()
            };
            columns.iter().map(one).collect()
        };
        rows.iter().map(line).collect()
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        bounds: &'static [f64],
        (label, values): Values<'_>,
    ) -> Vec<Histogram> {
        let family = self.histogram_family(name, help, bounds);
        let one = |value: &&str| family.get_or_create(&vec![(label, (*value).to_owned())]).clone();
        values.iter().map(one).collect()
    }

    pub(super) fn counter_family(&mut self, name: &str, help: &str) -> Family<Labels, Counter> {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        family
    }

    pub(super) fn gauge_family(&mut self, name: &str, help: &str) -> Family<Labels, Gauge> {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        family
    }

    pub(super) fn histogram_family(
        &mut self,
        name: &str,
        help: &str,
        bounds: &'static [f64],
    ) -> HistogramFamily {
        let family = Family::new_with_constructor(Bounds(bounds));
        self.0.register(name, help, family.clone());
        family
    }
}
