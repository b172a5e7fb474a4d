//! The registry: families of counters, gauges and histograms, and every sample they hold.
//!
//! A series is looked up once, by [`Family::with`], and its `Arc` kept by whoever moves it: the
//! hot path touches only atomics. Label sets are closed by intent and capped by force: a family
//! never holds more than [`SERIES_MAX`] series, further label values share one whose labels all
//! read `other`. Start at [`Registry::gather`]: text, and whatever else reads the metrics, is made
//! from what it returns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::{Mutex, RwLock};

pub use super::metric::{Counter, FloatCounter, Gauge, Histogram, Metric, Part, Type};

/// Series a family holds before further label values are counted under `other`.
pub const SERIES_MAX: usize = 256;
/// The value of every label of the series that takes what is beyond [`SERIES_MAX`].
pub const OTHER: &str = "other";
/// Label names with their values, in the family's order.
pub type Labels = Arc<[(&'static str, Box<str>)]>;

/// One value at the time of gathering.
#[derive(Clone, Debug)]
pub struct Sample {
    pub part: Part,
    /// Without `le`, which is in [`Part::Bucket`].
    pub labels: Labels,
    pub value: f64,
}

/// A family with its samples, in the order of their labels.
#[derive(Clone, Debug)]
pub struct Gathered {
    pub name: &'static str,
    pub help: &'static str,
    pub r#type: Type,
    pub samples: Vec<Sample>,
}

/// Metrics of one name that differ in the values of their `N` labels. Cloning it is cheap and
/// gives the same family.
pub struct Family<M, const N: usize>(Arc<FamilyInner<M, N>>);

impl<M, const N: usize> Clone for Family<M, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct FamilyInner<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    make: Box<dyn Fn() -> M + Send + Sync>,
    series: RwLock<Series<M, N>>,
}

/// By label values.
type Series<M, const N: usize> = BTreeMap<[Box<str>; N], (Labels, Arc<M>)>;

impl<M: Metric, const N: usize> Family<M, N> {
    /// The series with these label values, made on first use; to be kept by the caller. Beyond
    /// [`SERIES_MAX`] series, the one whose labels all read [`OTHER`].
    pub fn with(&self, values: [&str; N]) -> Arc<M> {
        let inner = &*self.0;
        inner.series.write(|series| {
            let full = series.len() >= SERIES_MAX;
            let key = values.map(Box::from);
            if let Some((_, metric)) = series.get(&key) {
                return Arc::clone(metric);
            }
            let key = if full { [OTHER; N].map(Box::from) } else { key };
            let (_, metric) = series.entry(key).or_insert_with_key(|key| {
                let labels = inner.labels.into_iter().zip(key.iter().cloned()).collect();
                (labels, Arc::new((inner.make)()))
            });
            Arc::clone(metric)
        })
    }
}

/// A family whatever it is made of.
trait Gather: Send + Sync {
    fn gather(&self) -> Gathered;
}

impl<M: Metric, const N: usize> Gather for FamilyInner<M, N> {
    fn gather(&self) -> Gathered {
        let mut samples = Vec::new();
        for (labels, metric) in self.series.read().values() {
            metric.read(&mut |part, value| {
                samples.push(Sample {
                    part,
                    labels: Arc::clone(labels),
                    value,
                });
            });
        }
        Gathered {
            name: self.name,
            help: self.help,
            r#type: M::TYPE,
            samples,
        }
    }
}

/// Takes the values that are read when somebody looks.
#[derive(Default)]
pub struct Collector {
    families: BTreeMap<&'static str, Gathered>,
}

impl Collector {
    /// Adds a gauge's value.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.add(name, help, Type::Gauge, labels, value);
    }

    /// Adds a counter's value.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.add(name, help, Type::Counter, labels, value);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        r#type: Type,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let family = self.families.entry(name).or_insert_with(|| Gathered {
            name,
            help,
            r#type,
            samples: Vec::new(),
        });
        // Summing what is beyond the cap would be wrong for a gauge that is no sum, so it is left
        // out; no collector has more series than there are coordinators.
        if family.samples.len() < SERIES_MAX {
            family.samples.push(Sample {
                part: Part::Whole,
                labels: labels
                    .iter()
                    .map(|(name, value)| (*name, Box::from(*value)))
                    .collect(),
                value,
            });
        }
    }
}

/// Reads values when somebody looks.
pub type Collect = Box<dyn Fn(&mut Collector) + Send + Sync>;

/// Every family of the process.
pub struct Registry {
    families: Mutex<Vec<Arc<dyn Gather>>>,
    collectors: Mutex<Vec<Arc<Collect>>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry without families.
    pub const fn new() -> Self {
        Self {
            families: Mutex::new("metrics.families", Vec::new()),
            collectors: Mutex::new("metrics.collectors", Vec::new()),
        }
    }

    /// A new family. Names are given once, by the code, and never twice.
    pub fn family<M: Metric + Default, const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<M, N> {
        self.family_of(name, help, labels, M::default)
    }

    /// A new family of histograms; `bounds` as in [`Histogram::new`].
    pub fn histograms<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        bounds: &'static [f64],
    ) -> Family<Histogram, N> {
        self.family_of(name, help, labels, move || Histogram::new(bounds))
    }

    fn family_of<M: Metric, const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Family<M, N> {
        let inner = Arc::new(FamilyInner {
            name,
            help,
            labels,
            make: Box::new(make),
            series: RwLock::new("metrics.series", BTreeMap::new()),
        });
        self.families.lock().push(inner.clone());
        Family(inner)
    }

    /// Adds a source of values that are read when somebody looks.
    pub fn collect(&self, collect: Collect) {
        self.collectors.lock().push(Arc::new(collect));
    }

    /// Every family that has a sample, by name, with what `owner` adds. The locks are held only to
    /// copy the lists: collectors read files.
    pub fn gather(&self, owner: &dyn Fn(&mut Collector)) -> Vec<Gathered> {
        let families = self.families.lock().clone();
        let collectors = self.collectors.lock().clone();
        let mut collector = Collector::default();
        owner(&mut collector);
        for collect in &collectors {
            collect(&mut collector);
        }
        let mut all: Vec<Gathered> = families
            .iter()
            .map(|family| family.gather())
            .chain(collector.families.into_values())
            .filter(|family| !family.samples.is_empty())
            .collect();
        all.sort_by_key(|family| family.name);
        all
    }
}

/// Every sample with its family's name and type, in the order of `families`.
pub fn samples(families: &[Gathered]) -> impl Iterator<Item = (&'static str, Type, &Sample)> {
    families.iter().flat_map(|family| {
        let (name, r#type) = (family.name, family.r#type);
        family
            .samples
            .iter()
            .map(move |sample| (name, r#type, sample))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(registry: &Registry) -> Vec<(String, f64)> {
        samples(&registry.gather(&|_| {}))
            .map(|(name, _, sample)| {
                let labels: Vec<_> = sample.labels.iter().map(|(_, v)| v.to_string()).collect();
                let text = format!("{name}{}{labels:?}", sample.part.suffix());
                (text, sample.value)
            })
            .collect()
    }

    #[test]
    fn a_series_is_made_once_and_keeps_counting() {
        let registry = Registry::new();
        let family = registry.family::<Counter, 1>("a_total", "A.", ["x"]);
        family.with(["1"]).add(2);
        family.with(["1"]).increment();
        assert_eq!(values(&registry), [("a_total[\"1\"]".to_owned(), 3.0)]);
    }

    #[test]
    fn a_family_without_series_is_not_shown() {
        let registry = Registry::new();
        let _family = registry.family::<Counter, 1>("a_total", "A.", ["x"]);
        assert!(registry.gather(&|_| {}).is_empty());
    }

    #[test]
    fn beyond_the_cap_everything_is_other_and_known_series_stay() {
        let registry = Registry::new();
        let family = registry.family::<Counter, 2>("a_total", "A.", ["x", "y"]);
        for n in 0..SERIES_MAX + 50 {
            family.with([&n.to_string(), "y"]).increment();
        }
        family.with(["0", "y"]).increment();
        assert_eq!(values(&registry).len(), SERIES_MAX + 1);
        assert_eq!(family.with(["0", "y"]).get(), 2);
        assert_eq!(family.with([OTHER, OTHER]).get(), 50);
    }

    #[test]
    fn threads_lose_no_count() {
        let registry = Registry::new();
        let family = registry.family::<Counter, 1>("a_total", "A.", ["x"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let counter = family.with(["1"]);
                    for _ in 0..10_000 {
                        counter.increment();
                    }
                });
            }
        });
        assert_eq!(family.with(["1"]).get(), 40_000);
    }
}
