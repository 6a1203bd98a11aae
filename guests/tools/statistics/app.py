"""Figures of samples, with Python's own statistics module."""

import math
import statistics
from typing import List

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.samples import (
    Line,
    Point,
    StatisticsError_Constant,
    StatisticsError_NotFinite,
    StatisticsError_Overflow,
    StatisticsError_TooFew,
    Summary,
)


def checked(values: List[float], least: int) -> None:
    """Raises unless there are so many values, all of them finite."""
    if len(values) < least:
        raise Err(StatisticsError_TooFew(least))
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise Err(StatisticsError_NotFinite(index))


def finite(*figures: float) -> None:
    """Raises where a figure has left the range of a float."""
    if not all(math.isfinite(figure) for figure in figures):
        raise Err(StatisticsError_Overflow())


class Samples(exports.Samples):
    def summarize(self, values: List[float]) -> Summary:
        checked(values, 1)
        several = len(values) > 1
        try:
            mean = statistics.fmean(values)
            median = statistics.median(values)
            deviation = statistics.stdev(values) if several else 0.0
            cuts = statistics.quantiles(values, n=4, method="inclusive") if several else values * 3
        except OverflowError:
            raise Err(StatisticsError_Overflow())
        finite(mean, median, deviation, *cuts)
        return Summary(len(values), mean, median, deviation, (cuts[0], cuts[1], cuts[2]))

    def fit(self, points: List[Point]) -> Line:
        xs = [point.x for point in points]
        ys = [point.y for point in points]
        checked(xs, 2)
        checked(ys, 2)
        if len(set(xs)) == 1 or len(set(ys)) == 1:
            raise Err(StatisticsError_Constant())
        try:
            slope, intercept = statistics.linear_regression(xs, ys)
            correlation = statistics.correlation(xs, ys)
        except (OverflowError, statistics.StatisticsError, ZeroDivisionError):
            raise Err(StatisticsError_Overflow())
        finite(slope, intercept, correlation)
        return Line(slope, intercept, correlation)
