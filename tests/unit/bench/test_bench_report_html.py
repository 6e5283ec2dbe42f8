"""The report's page: whole in itself, honest about how a figure came, and safe against what servers say."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from bench_results import DELAYED, batching_suite, cell, db_suite, engine_suite, sweep_result

from dreamseed_cli.bench.report.html import html_page
from dreamseed_cli.bench.report.scorecard import scorecard
from dreamseed_cli.bench.result import BenchResult, CellResult, Interval, ReplicaShare, SuiteResult

HOSTILE = "<script>alert('$x_1$')</script>\"' onload=\"x"


class Seen(HTMLParser):
    """Every element of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of the elements with these tags."""
        return [attributes for tag, attributes in self.elements if tag in tags]


def page_of(result: BenchResult) -> str:
    """The page of a result, judged by the document."""
    return html_page(result, scorecard(result))


def with_cells(*cells: CellResult, **changes: object) -> BenchResult:
    """A run of one suite of these cells."""
    suite = SuiteResult(name="engine", headline="A headline.", cells=cells)
    return sweep_result(suite).model_copy(update=changes)


@pytest.fixture(scope="module")
def page() -> str:
    """The page of the sweep."""
    return page_of(sweep_result())


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    """No script, no address to fetch from, and a policy that forbids both."""
    seen = Seen(page)
    assert seen.of("script", "link", "img", "iframe", "object", "embed", "base") == []
    assert not re.search(r"@import|https?:|url\((?!#)", page)
    policies = [one["content"] for one in seen.of("meta") if one.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_same_result_gives_the_same_page() -> None:
    """No date, no random name: two pages can be compared byte by byte."""
    result = with_cells(*batching_suite().cells[:2])
    assert page_of(result) == page_of(result)


def test_a_page_of_ten_cells_is_small(page: str) -> None:
    """Under 600 kB with all its plots."""
    assert len(page.encode()) < 600_000


def test_plots_take_their_colours_from_the_page_and_share_no_names(page: str) -> None:
    """Dark mode works only if no plot has a colour of its own; a reference must find its own plot's part."""
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 38
    assert [found for plot in plots for found in re.findall(r"#[0-9a-f]{6}\b", plot)] == []
    ids = [str(one["id"]) for _, one in Seen(page).elements if "id" in one]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    referred = set(re.findall(r'(?:url\(|href=")#([\w-]+)', page))
    assert referred
    assert referred <= set(ids)


def test_plots_can_be_read_aloud(page: str) -> None:
    """Each has a title and tells its points; every head of a table says what it heads."""
    seen = Seen(page)
    assert all(one["role"] == "img" and one["aria-labelledby"] for one in seen.of("svg"))
    assert "output in tok/s over the rate asked for (requests/s)" in seen.text
    assert "402 tok/s at 2, 801 tok/s at 4" in seen.text
    assert all(one.get("scope") in {"col", "row"} for one in seen.of("th"))


def test_what_servers_and_models_call_themselves_is_text(recwarn: pytest.WarningsRecorder) -> None:
    """Markup, formulas and letters that no font has, in every name, stay what they are: words."""
    one = cell({"type": "rate", "per_s": 2.0, "arrivals": "poisson"}, tokens_per_s=400.0, ttft_ms=90.0)
    one = one.model_copy(
        update={
            "name": HOSTILE,
            "details": {HOSTILE: 3},
            "workload": HOSTILE,
            "notes": (HOSTILE,),
            "replicas": {
                HOSTILE: ReplicaShare(requests=1, output_tokens_per_s=1.0),
                "드림시드": ReplicaShare(requests=1, output_tokens_per_s=2.0),
            },
        }
    )
    table = db_suite().tables[0].model_copy(update={"title": HOSTILE, "rows": ({"kind": HOSTILE},)})
    suite = SuiteResult(name=HOSTILE, headline=HOSTILE, cells=(one,), tables=(table,), missed=(HOSTILE,))
    result = sweep_result(suite).model_copy(update={"model": HOSTILE, "device": HOSTILE, "target": HOSTILE})
    seen = Seen(page_of(result))
    assert seen.of("script") == []
    assert [attributes for _, attributes in seen.elements if "onload" in attributes] == []
    assert seen.text.count(HOSTILE) > 10
    assert "드림시드" in seen.text
    assert list(recwarn) == []


def test_a_simulated_run_is_never_called_measured() -> None:
    """The stamp says SIMULATED, and each plot and table of cells repeats it."""
    text = Seen(page_of(with_cells(*engine_suite().cells[:2]))).text
    assert "SIMULATED, emulated cards: roofline of plan/cards.toml" in text
    assert "MEASURED" not in text
    for title in ("Throughput against load", "Latency against load", "Cells", "Energy of the cards"):
        assert f"{title} simulated" in text


def test_a_measured_run_says_so_and_on_what() -> None:
    """`MEASURED, CPU`: the note is beside the word."""
    one = cell({"type": "streams", "count": 1}, tokens_per_s=40.0, ttft_ms=90.0)
    text = Seen(page_of(with_cells(one, provenance="measured", provenance_note="CPU"))).text
    assert "MEASURED, CPU VALID" in text
    assert "SIMULATED" not in text


def test_an_invalid_run_says_why_and_what_to_do_before_anything_else(page: str) -> None:
    """INVALID, the cell, the reason and the remedy stand above the first figure."""
    text = Seen(page).text
    banner = text[: text.index("Scorecard against the document")]
    assert "INVALID engine / poisson-10 (scheduling-delay)" in banner
    assert DELAYED.reason in banner
    assert DELAYED.remedy in banner


def test_an_interrupted_run_is_marked(page: str) -> None:
    """PARTIAL in the banner if the run, a suite or a cell was cut short; else nowhere."""
    one = cell({"type": "streams", "count": 1}, tokens_per_s=40.0, ttft_ms=90.0)
    assert "PARTIAL" in Seen(page_of(with_cells(one.model_copy(update={"partial": True})))).text
    assert "PARTIAL" not in Seen(page).text


def test_the_scorecard_shows_document_and_run_side_by_side(page: str) -> None:
    """The document's figure, this run's with interval and provenance, the verdict, and how it comes about."""
    text = Seen(page).text
    assert "writing transactions §E1 e1-write-tps 500-1,000 TPS document 432 TPS 419-445 measured" in text
    assert "falls short" in text
    assert "3 cards x 500 tok/s = 1,500 tok/s" in text


def test_cells_without_answers_make_a_page_too() -> None:
    """Every request failed: no latencies, no timeline, no distribution, and still a report."""
    nothing = Interval(value=0.0)
    bare = {
        **dict.fromkeys(("ttft", "ttft_from_send", "itl", "tpot", "e2e", "scheduling_delay", "energy")),
        **dict.fromkeys(
            ("output_tokens_per_s", "requests_per_s", "goodput_per_s", "slo_attainment"), nothing
        ),
        "total_tokens_per_s": nothing,
        "timeline": (),
        "cdfs": {},
        "replicas": {},
        "endings": {"unreachable": 40},
    }
    cells = [one.model_copy(update=bare) for one in batching_suite().cells]
    text = Seen(page_of(with_cells(*cells))).text
    assert "unreachable 40" in text
    assert "Second by second" not in text


def test_one_cell_is_no_sweep() -> None:
    """Nothing is drawn over the load where one load was measured; its distribution and timeline are."""
    one = cell({"type": "users", "count": 450, "think_s": 10.0}, tokens_per_s=400.0, ttft_ms=90.0)
    text = Seen(page_of(with_cells(one))).text
    assert "against load" not in text
    assert "Distribution of latencies" in text


def test_shapes_from_elsewhere_are_named_by_their_cell() -> None:
    """A cell whose shape is none of ours still has its row."""
    one = cell({"type": "streams", "count": 1}, tokens_per_s=40.0, ttft_ms=90.0)
    other = one.model_copy(update={"name": "mixed", "shape": {"type": "locust"}})
    assert "mixed mixed 90.0" in Seen(page_of(with_cells(one, other))).text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG AA) for every pair of text and ground, at least 3 for lines."""
    style = files("dreamseed_cli.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    block = light if scheme == "light" else light + dark
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [(text, ground) for text in ("ink", "muted", "accent") for ground in ("card", "page", "bad-soft")]
    pairs += [(name, f"{name}-soft") for name in ("good", "bad", "warn", "sim")]
    poor = [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
    poor += [(f"s{n}", "card") for n in range(1, 9) if contrast(colours[f"s{n}"], colours["card"]) < 3]
    assert poor == []


def contrast(first: str, second: str) -> float:
    """WCAG 2.1's contrast ratio of two colours."""
    bright, dim = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
