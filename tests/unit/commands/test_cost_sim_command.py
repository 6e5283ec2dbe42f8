"""`dreamseed cost-sim`, as people and machines see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks._stepped import closed_cell
from dreamseed_cli.app import main
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.results import read_results
from dreamseed_cli.estimates.verdict import judge
from dreamseed_cli.profile.schema import EmulatedCard

_QUICK = ("--draws", "20", "--hours", "0")


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["cost-sim", *arguments])
    return int(ended.value.code or 0)


def _data(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert _run(*arguments, "--json") == code
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["ok"]) == ("cost-sim", code == 0)
    data: dict[str, Any] = document["data"]
    return data


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The one error of a call that is refused."""
    assert _run(*arguments, *_QUICK, "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert not document["ok"]
    (error,) = document["errors"]
    found: dict[str, str] = error
    return found


def _profile(folder: Path, text: str) -> str:
    """The default profile with tables of one's own."""
    shipped = Path("profiles/rtx5090x3.toml").read_text(encoding="utf-8")
    path = folder / "own.toml"
    path.write_text(f"{shipped}\n{text}\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "place", "cause"),
    [
        (("--users", "-5"), "--users", "negative"),
        (("--users", "10", "--concurrent", "11"), "--concurrent", "more than"),
        (("--users", "10000000001"), "--users", "more people"),
        (("--users", "10", "--gpus", "1001"), "--gpus", "one house"),
        (("--users", "10", "--set", "gpus=1001"), "--set gpus", "one house"),
        (("--users", "10", "--set", "hours=8785"), "--set hours", "than a year"),
        (("--users", "10", "--set", "monthly_growth=11"), "--set monthly_growth", "1,000 %"),
        (("--users", "10", "--set", "answer_tokens=1e300"), "--set answer_tokens", "more than anything"),
        (("--users", "10", "--set", "card_tok_s=1e-300"), "--set card_tok_s", "too little"),
        (("--users", "10", "--set", "psu_efficiency=1e-9"), "--set psu_efficiency", "too little"),
        (("--users", "10", "--set", "ai_share=1.5"), "--set ai_share", "not a share"),
        (("--users", "10", "--set", "cdn_hit=95"), "--set cdn_hit", "not a share"),
        (("--users", "10", "--set", "ai_shar=0.1"), "--set ai_shar", "no assumption and no price"),
        (
            ("--users", "10", "--set", "cloud-run-cpuu=1"),
            "--set cloud-run-cpuu",
            "no assumption and no price",
        ),
        (("--users", "10", "--set", "egress=-1"), "--set egress", "negative"),
        (("--users", "10", "--set", "egress=0"), "--set egress", "several blocks"),
        (("--users", "10", "--set", "cloudflare=gold"), "--set cloudflare", "no 'gold'"),
        (("--users", "10", "--set", "gpus=2.5"), "--set gpus", "whole number"),
        (("--users", "10", "--set", "nonsense"), "--set", "no setting"),
        (("--users", "10", "--set", "tariff=moonlight"), "--set tariff", "no tariff"),
        (("--users", "10", "--set", "fallback=oracle"), "--set fallback", "no price"),
        (("--users", "10", "--set", "month=13"), "--set month", "no '13'"),
        (("--users", "10", "--set", "card_idle_w=600"), "--set card_idle_w", "more than card_loaded_w"),
        (("--users", "10", "--set", "card_loaded_w=100"), "--set card_loaded_w", "below"),
        (("--users", "10", "--profile", "rtx5090x3-document", "--gpus", "2"), "--gpus", "groups of 3"),
        (("--users", "10", "--profile", "laptop"), "engine", "no roofline"),
        (("--users", "10", "--bench", "nowhere.json"), "nowhere.json", "no result"),
        (("--sweep", "cards=1..3"), "--sweep", "no sweep"),
        (("--sweep", "users=1e3..1e11"), "--sweep", "no sweep"),
        (("--sweep", "users=1e3..1e4"), "--hours", "simulated row by row"),
        ((), "--users", "nobody"),
        (("--sweep", "users=1e3..1e4", "--budget", "5"), "--budget", "one number of users"),
        (("--users", "10", "--budget", "much"), "--budget", "not an amount"),
        (("--users", "10", "--budget", "-1"), "--budget", "negative"),
        (("--users", "10", "--budget", "1e400"), "--budget", "all the money"),
    ],
)
def test_bad_input_is_refused_at_its_path(
    arguments: tuple[str, ...], place: str, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, with the place, what is wrong there, and what to do."""
    error = _error(capsys, *arguments)
    assert error["place"] == place
    assert cause in error["cause"]
    assert error["remedy"]


def test_a_box_that_no_engine_starts_on_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The document's own: three cards do not divide 40 heads."""
    assert _run("--users", "10", "--profile", "rtx5090x3-document", *_QUICK, "--json") == 2
    places = {error["place"] for error in json.loads(capsys.readouterr().out)["errors"]}
    assert "engine.tensor_parallel_size" in places


def test_a_profiles_own_mistakes_have_their_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown prices and assumptions of a profile, each in its table."""
    for table, place in (
        ('[prices]\ncloud-run-cpuu = "1"', "rtx5090x3: prices.cloud-run-cpuu"),
        ("[costs]\nai_shar = 0.1", "rtx5090x3: costs.ai_shar"),
        ("[costs]\nai_share = 4.5", "rtx5090x3: costs.ai_share"),
        ('[costs]\ntariff = "moonlight"', "rtx5090x3: costs.tariff"),
    ):
        error = _error(capsys, "--users", "10", "--profile", _profile(tmp_path, table))
        assert error["place"] == place


def test_profile_check_finds_the_same_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them at once: nobody waits for a bill to learn of a wrong name."""
    path = _profile(tmp_path, '[prices]\ngold = "1"\n[costs]\nai_shar = 0.1\nfallback = "oracle"')
    with pytest.raises(SystemExit) as ended:
        main(["profile", "check", path, "--json"])
    assert ended.value.code == 2
    errors = json.loads(capsys.readouterr().out)["errors"]
    found = [error["place"].removeprefix("rtx5090x3: ") for error in errors]
    assert found == ["prices.gold", "costs.ai_shar", "costs.fallback"]
    share = _profile(tmp_path, "[costs]\nai_share = 4.5")
    with pytest.raises(SystemExit):
        main(["profile", "check", share, "--json"])
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["place"] == "rtx5090x3: costs.ai_share"


def test_zero_users_cost_the_fixed_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that is paid by use, and an idle box; simulated, it holds: nobody is refused."""
    data = _data(capsys, "--users", "0", "--draws", "20", "--hours", "0.05")
    usd = {line["key"]: line["usd"]["value"] for line in data["study"]["bill"]["lines"]}
    assert (usd["cloudflare"], usd["fixed-ip"]) == (20.0, 10.0)
    assert usd["egress"] == usd["fallback"] == 0.0
    assert usd["electricity"] > 0
    assert data["target"]["keeps_slo"] is True


def test_a_set_price_and_assumption_change_the_bill_and_do_not_vary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line's win over the profile's; what is set has no bar in the ranking."""
    own = _profile(tmp_path, '[prices]\nelectricity-flat = "0.24"\n[costs]\nai_share = 0.02')
    plain = _data(capsys, "--users", "1000", *_QUICK)["study"]
    changed = _data(capsys, "--users", "1000", "--profile", own, "--set", "ai_share=0.03", *_QUICK)["study"]
    before, after = (
        next(line["usd"]["value"] for line in one["bill"]["lines"] if line["key"] == "electricity")
        for one in (plain, changed)
    )
    assert after == pytest.approx(2 * before, abs=0.02)
    assert changed["scenario"]["ai_share"] == 0.03
    assert {"ai_share", "electricity-flat"} <= set(changed["stated"])
    assert {bar["name"] for bar in plain["sensitivity"]} - {
        bar["name"] for bar in changed["sensitivity"]
    } == {
        "ai_share",
        "electricity-flat",
    }


def test_a_missed_slo_and_an_exceeded_budget_are_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """One card of §B1's speed against a million users; a dollar against any bill."""
    slow = ("--gpus", "1", "--set", "card_tok_s=500", "--set", "card_sequences=8")
    missed = _data(capsys, "--users", "1000000", *slow, *_QUICK, code=1)
    assert missed["target"]["keeps_slo"] is False
    dear = _data(capsys, "--users", "1000", "--budget", "1", *_QUICK, code=1)
    assert (dear["target"]["keeps_slo"], dear["target"]["within_budget"]) == (True, False)
    assert _data(capsys, "--users", "1000", "--budget", "1e6", *_QUICK)["target"]["met"]


def test_the_simulation_says_so_of_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it holds is simulated, what it costs is computed; no figure claims to be measured."""
    data = _data(capsys, "--users", "50000", "--draws", "20", "--hours", "0.1")
    hour = data["study"]["busiest_hour"]
    assert hour["kept_slo"]["provenance"] == hour["classes"]["premium"]["ttft_s"]["p50"]["provenance"]
    assert hour["kept_slo"]["provenance"] == "simulated"
    assert data["study"]["bill"]["total"]["provenance"] == "computed"
    assert '"measured"' not in json.dumps(data)


def test_out_is_a_folder_of_results_that_estimates_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Page, tables and a record: simulated and computed figures reach the document's estimates as such."""
    out = tmp_path / "run"
    calm = ("--set", "requests_per_user_min=0.5", "--draws", "20", "--hours", "0.1")
    arguments = ("--users", "1000000", *calm, "--sweep", "users=1e3..1e3")
    data = _data(capsys, *arguments, "--out", str(out))
    assert {Path(name).name for name in data["files"]} == {path.name for path in out.iterdir()}
    assert {path.name for path in out.iterdir()} == {"result.json", "bill.csv", "sweep.csv", "report.html"}
    results, figures = read_results(out), load_book()
    assert results.skipped == ()
    held = judge(figures, figures.get("goal-concurrent-users"), results)
    assert held.word == "simulated"
    cost = judge(figures, figures.get("goal-monthly-usd"), results)
    assert cost.word == "contradicted"
    assert f"Computed {say(data['study']['bill']['total']['value'])} USD/month" in cost.sentence
    assert "with requests_per_user_min set" in cost.sentence
    assert "Computed" in judge(figures, figures.get("f3-1k"), results).sentence
    hybrid = judge(figures, figures.get("a-hybrid-usd"), results)
    assert hybrid.word == "holds"
    assert hybrid.number is not None
    assert hybrid.number.provenance == "computed"


def _bench_result(path: Path, *streams: int) -> Path:
    """What a bench of an emulated engine under so many streams would say."""
    card = EmulatedCard(
        source="test",
        prefill_tokens_per_s=3550.0,
        decode_step_ms=5.6,
        decode_step_ms_per_seq=0.28,
        kv_cache_tokens=1_000_000,
    )
    cells = [closed_cell(card, count, 60) for count in streams]
    document = {
        "provenance": "simulated",
        "device": "emulated",
        "profile": "emulated-rtx5090x3",
        "target": "http://127.0.0.1:8000",
        "suites": [{"name": "engine", "cells": cells}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.no_cover  # thousands of steps a load: traced, they take thrice the time
def test_a_bench_result_alone_tells_how_well_it_is_foretold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every load measured and simulated, which were held out, and the error; in 80 columns, too."""
    bench = _bench_result(tmp_path / "result.json", 1, 4, 12)
    data = _data(capsys, "--bench", str(bench))
    assert data["study"] is data["sweep"] is None
    found = data["validation"]
    assert [load["name"] for load in found["loads"] if load["held_out"]] == ["streams-4"]
    assert found["held_out_error"]["provenance"] == "simulated"
    assert found["held_out_error"]["value"] <= found["aim_percent"] == 9.0
    assert data["target"]["foretells"] is True
    monkeypatch.setenv("COLUMNS", "80")
    assert _run("--bench", str(bench)) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    for words in ("measured", "simulated", "held out", "fitted", "Held-out error", "the aim is 9%"):
        assert words in shown


def test_a_bench_that_is_foretold_badly_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A load that took thrice as long as those around it say."""
    path = _bench_result(tmp_path / "result.json", 1, 4, 12)
    document = json.loads(path.read_text(encoding="utf-8"))
    times = document["suites"][0]["cells"][1]
    for kind in ("ttft", "e2e"):
        times[kind] = {"mean": {"value": 3 * times[kind]["mean"]["value"]}, "quantiles": {}}
    path.write_text(json.dumps(document), encoding="utf-8")
    data = _data(capsys, "--bench", str(tmp_path), code=1)
    assert data["target"]["foretells"] is False


def test_a_bench_with_too_few_loads_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two loads leave none to hold out."""
    error = _error(capsys, "--bench", str(_bench_result(tmp_path / "result.json", 1, 8)))
    assert "2 usable loads" in error["cause"]
    assert "three or more" in error["remedy"]


def test_the_tables_fit_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is wider than the window, in dollars or won, and no word of a number is cut."""
    monkeypatch.setenv("COLUMNS", "80")
    for currency in ("USD", "KRW"):
        arguments = ("--users", "1000000", "--currency", currency, "--draws", "20", "--hours", "0.1")
        assert _run(*arguments, "--sweep", "users=1e6..1e6") == 0
        shown = capsys.readouterr().out
        assert max(len(line) for line in shown.splitlines()) <= 80
        assert "…" not in shown
        assert "(simulated)" in shown
        assert "computed" in shown


def _record(path: Path, days: int) -> Path:
    """An hour at 600 W, again and again, with one outage."""
    lines = [
        {"kind": "energy", "began_at": hour * 3600, "ended_at": (hour + 1) * 3600, "energy_kwh": 0.6}
        for hour in range(days * 24)
    ]
    lines.append({"kind": "outage", "began_at": 7200, "ended_at": 9000, "energy_kwh": 0.3})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("days", "energy", "mains"),
    [(3, "computed", "assumption"), (30, "measured", "assumption"), (120, "measured", "measured")],
)
def test_a_record_of_the_box_takes_the_place_of_assumptions_when_it_is_long_enough(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, days: int, energy: str, mains: str
) -> None:
    """Its energy after a week, its outages after a quarter of a year; what it does not say has a source."""
    record = str(_record(tmp_path / "power.jsonl", days))
    data = _data(capsys, "--users", "1000", *_QUICK, "--power-record", record)
    power = data["study"]["power"]
    assert (power["file"], power["days"]) == (record, days)
    assert power["energy"]["provenance"] == energy
    assert (power["energy"]["value"] == 438) is (energy == "measured")  # 600 W for 730 hours
    assert power["mains"]["provenance"] == mains
    assert power["mains"]["source"].startswith(
        "measured: 1 outages" if mains == "measured" else "likeliest: KEPCO"
    )


def test_the_record_of_this_box_is_taken_by_itself(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `dreamseed ups` keeps it; without one it is said what stands in its place."""
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(tmp_path))
    assert _run("--users", "1000", *_QUICK) == 0
    assert "No record of this box's power" in capsys.readouterr().out
    _record(tmp_path / "ups/power.jsonl", 120)
    assert _run("--users", "1000", *_QUICK) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "box's own record says (measured, 120.0 days" in said
    assert "The architectures above have the recorded outages" in said


@pytest.mark.parametrize(("content", "cause"), [(None, "no such file"), ("half a li", "no record of power")])
def test_a_record_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, cause: str
) -> None:
    """Where it was named: an assumption must not stand silently in its place."""
    path = tmp_path / "power.jsonl"
    if content is not None:
        path.write_text(content)
    error = _error(capsys, "--users", "1000", "--power-record", str(path))
    assert error["place"] == f"--power-record {path}"
    assert cause in error["cause"]
