"""Durations in logarithmic buckets: small, mergeable, a percentile within 5 percent."""

import math
from collections.abc import Iterable, Mapping

_GROWTH = math.log(1.1)
_PER_GROWTH = 1 / _GROWTH
_SMALLEST = 1e-6


def bucket_of(seconds: float) -> int:
    """The bucket of a duration; bucket *n* covers 1.1**n to 1.1**(n+1) microseconds."""
    return int(math.log(seconds * 1e6) * _PER_GROWTH) if seconds > _SMALLEST else 0


def merge(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """The sum of several histograms."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def mean(histogram: Mapping[int, int]) -> float:
    """The mean duration in seconds, within 5 percent; 0 when empty."""
    total = sum(histogram.values())
    return (
        sum(_middle(bucket) * count for bucket, count in histogram.items()) / total
        if total
        else 0.0
    )


def percentile(histogram: Mapping[int, int], share: float) -> float:
    """The duration in seconds that *share* (0 to 1) of the entries do not exceed; 0 when empty."""
    left = max(1, math.ceil(sum(histogram.values()) * share))
    for bucket in sorted(histogram):
        left -= histogram[bucket]
        if left <= 0:
            return _middle(bucket)
    return 0.0


def _middle(bucket: int) -> float:
    return _SMALLEST * math.exp((bucket + 0.5) * _GROWTH)
