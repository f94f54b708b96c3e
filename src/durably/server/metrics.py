"""Figures for Prometheus: what the store keeps, asked for at each scrape, and what HTTP answers."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import durably
from durably import JobQueueService, QueueStats
from durably.store import WorkerState

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one process. Labels hold routes, never paths, so that they stay few."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "durably_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "durably_http_request_seconds",
            "How long answers took.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "durably_streams", "Event streams that are open.", registry=self._registry
        )
        ProcessCollector(namespace="durably", registry=self._registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, status).inc()
        self._seconds.labels(known, route).observe(seconds)

    async def exposition(
        self, queue: JobQueueService, *, ready: bool, streams: int
    ) -> tuple[bytes, str]:
        """The text of a scrape, and its content type.

        Args:
            queue: whose figures.
            ready: whether the service is.
            streams: how many event streams are open.
        """
        self._streams.set(streams)
        stats, workers = await queue.get_stats(), await queue.workers()
        paused = await queue.paused_queues()
        scrape = CollectorRegistry()
        scrape.register(_Figures([*_queue_figures(stats), *_worker_figures(workers, paused)]))
        Gauge("durably_ready", "Whether the service is ready.", registry=scrape).set(ready)
        return generate_latest(self._registry) + generate_latest(scrape), CONTENT_TYPE_LATEST


_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})


class _Figures(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _queue_figures(stats: QueueStats) -> Iterator[Metric]:
    jobs = _gauge("durably_jobs", "Jobs in the store; pending without scheduled.", "status")
    jobs.add_metric(["pending"], stats.pending_jobs - stats.scheduled_jobs)
    for status in ("scheduled", "processing", "completed", "failed", "cancelled"):
        jobs.add_metric([status], getattr(stats, f"{status}_jobs"))
    yield jobs
    by_type = _gauge("durably_jobs_by_type", "Jobs of every status.", "type")
    for kind, count in stats.jobs_by_type.items():
        by_type.add_metric([kind], count)
    yield by_type
    for name, text in (("wait", "From ready to handler start"), ("run", "Handlers' run time")):
        family = _gauge(f"durably_{name}_seconds", f"{text}, last 300 s.", "quantile")
        for percent in (50, 95, 99):
            family.add_metric([f"0.{percent}".rstrip("0")], getattr(stats, f"{name}_p{percent}"))
        yield family
    yield GaugeMetricFamily(
        "durably_throughput_jobs_per_second",
        "Jobs that became final, last 300 s.",
        value=stats.throughput,
    )
    yield GaugeMetricFamily(
        "durably_failed_attempts_ratio",
        "Failed attempts by all, last 300 s.",
        value=stats.error_rate,
    )
    yield CounterMetricFamily(
        "durably_late_outcomes", "Outcomes refused after a lost lease.", value=stats.late_outcomes
    )
    unhandled = _gauge(
        "durably_unhandled_types", "1 for types of pending jobs without a live handler.", "type"
    )
    for kind in stats.unhandled_types:
        unhandled.add_metric([kind], 1)
    yield unhandled


def _worker_figures(workers: Sequence[WorkerState], paused: frozenset[str]) -> Iterator[Metric]:
    alive = [worker for worker in workers if worker.alive]
    family = _gauge("durably_workers", "Registered workers of all processes.", "state")
    family.add_metric(["alive"], len(alive))
    family.add_metric(["dead"], len(workers) - len(alive))
    yield family
    slots = sum(worker.info.concurrency for worker in alive)
    yield GaugeMetricFamily("durably_worker_slots", "Slots of live workers.", value=slots)
    held = sum(worker.held for worker in workers)
    yield GaugeMetricFamily("durably_jobs_held", "Jobs claimed by workers.", value=held)
    queues = _gauge("durably_queue_paused", "1 for each paused queue.", "queue")
    for name in sorted(paused):
        queues.add_metric([name], 1)
    yield queues
    build = _gauge("durably_build_info", "The version.", "version")
    build.add_metric([durably.__version__], 1)
    yield build


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[label])
