"""One reading of the box's metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True, slots=True)
class Reading:
    """All samples of one exposition. at: seconds of any monotonic clock."""

    at: float
    samples: Samples = field(default_factory=dict)

    @classmethod
    def parse(cls, at: float, text: str) -> Reading:
        """From Prometheus's text format."""
        return cls(
            at,
            {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            },
        )

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of this name with these labels."""
        wanted = set(labels.items())
        return sum(
            value for (found, has), value in self.samples.items() if found == name and wanted <= set(has)
        )

    def value(self, name: str) -> float | None:
        """The one series of this name; None if there is none."""
        return next((value for (found, _), value in self.samples.items() if found == name), None)
