"""What provokes each alert: series of samples, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

ALL_WRONG, NO_GATEWAY, NO_DRILL, AWAY = "all-wrong", "no-gateway", "no-drill", "away"
"""Boxes of a real Prometheus; nothing listens on the last."""


@dataclass(frozen=True, slots=True)
class Case:
    """series: promtool's notation, one sample a minute. fires_at: when it must be firing.

    now: what a box tells a real Prometheus for the same, `$n` the number of its scrape; None: not tried.
    box: which, since what one box tells can hide what is wrong with another. labels: of the firing alert,
    where several have its name.
    """

    alert: str
    series: dict[str, str]
    fires_at: str
    now: str | None = None
    box: str = ALL_WRONG
    labels: dict[str, str] = field(default_factory=dict)


_UP = {'up{job="dreamseed",box="b"}': "1x4000"}
_PART = 'dreamseed_collector_up{{part="{}",box="b"}}'
WORKLOADS = ("question", "feedback", "recommendation")
_DURATION = 'gen_ai_server_request_duration_seconds_count{outcome="finished"}'
_FAILED = 'gen_ai_server_request_duration_seconds_count{outcome="failed"}'
_GOOD = 'gen_ai_server_time_to_first_token_seconds_bucket{le="1.0"}'
_FIRST = "gen_ai_server_time_to_first_token_seconds_count"
_ALL_LATE = f"{_DURATION} $n0\n{_GOOD} 0\n{_FIRST} $n0"
_HITS = 'dreamseed_cache_lookups_total{{workload="{}",result="{}",box="b"}}'
_QUEUE_WAIT = 'dreamseed_queue_wait_seconds_bucket{{priority="premium",replica="r0",le="{}",box="b"}}'
_ALARM = 'dreamseed_backup_alarm{{alarm="{}",box="b"}}'

HEALTHY_FOR = "8h"
HEALTHY = {
    **_UP,
    **{_PART.format(part): "1x480" for part in ("stack", "gateway", "backups", "ups")},
    'dreamseed_replica_ready{replica="r0",box="b"}': "1x480",
    'dreamseed_replica_ready{replica="r1",box="b"}': "1x480",
    'dreamseed_replica_transitions_total{replica="r0",state="hung",reason="no_progress",box="b"}': "3x480",
    **{_QUEUE_WAIT.format(bound): "0+60x480" for bound in ("0.1", "1.0", "+Inf")},
    # One request in a thousand is late: a box without a fault, not one without work.
    _DURATION: "0+1000x480",
    _GOOD: "0+999x480",
    _FIRST: "0+1000x480",
    'dreamseed_dependency_state{dependency="redis",box="b"}': "0x480",
    'dreamseed_events_lost_total{box="b"}': "3x480",
    **{
        _HITS.format(workload, result): f"0+{count}x480"
        for workload in WORKLOADS
        for result, count in (("hit", 99), ("miss", 1))
    },
    'dreamseed_fallback_committed_usd{box="b"}': "0+0.01x480",
    'dreamseed_gpu_hot{gpu="1",box="b"}': "0x480",
    'dreamseed_gpu_usable{gpu="1",box="b"}': "1x480",
    'dreamseed_gpu_ecc_uncorrected{gpu="1",box="b"}': "2x480",
    # A model was fetched; since then it fills, but slowly.
    'dreamseed_disk_free_bytes{box="b"}': "80-2x10 60-0.005x470",
    'dreamseed_disk_size_bytes{box="b"}': "100x480",
    'dreamseed_certificate_expiry_timestamp_seconds{file="s.crt",kind="server",box="b"}': "5000000x480",
    'dreamseed_certificate_alarming{file="s.crt",condition="good",box="b"}': "0x480",
    'dreamseed_ups_on_battery{box="b"}': "0x480",
    'dreamseed_ups_communication{box="b"}': "1x480",
    'dreamseed_ups_replace_battery{box="b"}': "0x480",
    'dreamseed_ups_overload{box="b"}': "0x480",
    'dreamseed_ups_looked_timestamp_seconds{box="b"}': "0+60x480",
    'dreamseed_backup_rpo_seconds{box="b"}': "300x480",
    'dreamseed_backup_rpo_target_seconds{box="b"}': "900x480",
    'dreamseed_backup_looked_timestamp_seconds{box="b"}': "-1000+60x480",
    **{_ALARM.format(alarm): "0x480" for alarm in ("failed", "late", "rpo", "wal", "drill")},
    'dreamseed_backup_last_success_timestamp_seconds{box="b"}': "-60000x480",
    'dreamseed_backup_wal_gaps{box="b"}': "0x480",
    'dreamseed_backup_wal_disk_alert{box="b"}': "0x480",
    'dreamseed_drill_last_success_timestamp_seconds{scenario="lost-host",box="b"}': "-2000000x480",
    'dreamseed_drill_passed{scenario="lost-host",box="b"}': "1x480",
}
"""A working box, of which nothing may fire. promtool's clock begins at 0; ages are near their bounds."""

CASES = (
    Case("DreamseedWatchdog", {}, "1m", now=""),
    Case("DreamseedNotSeen", {'up{job="dreamseed",box="b"}': "1 0x10"}, "5m", now="", box=AWAY),
    Case(
        "DreamseedStackDown",
        {_PART.format("stack"): "1 0x10"},
        "5m",
        now='dreamseed_collector_up{part="stack"} 0',
    ),
    Case(
        "DreamseedGatewayDown",
        {_PART.format("stack"): "1x10", _PART.format("gateway"): "1 0x10"},
        "5m",
        now='dreamseed_collector_up{part="stack"} 1\ndreamseed_collector_up{part="gateway"} 0',
        box=NO_GATEWAY,
    ),
    Case(
        "DreamseedCollectorDown",
        {_PART.format("ups"): "1 0x20"},
        "15m",
        now='dreamseed_collector_up{part="ups"} 0',
    ),
    Case(
        "DreamseedNoEngine",
        {'dreamseed_replica_ready{replica="r0",box="b"}': "1 0x10"},
        "4m",
        now='dreamseed_replica_ready{replica="r0"} 0',
    ),
    Case(
        "DreamseedEngineDown",
        {'dreamseed_replica_ready{replica="r0"}': "0x20", 'dreamseed_replica_ready{replica="r1"}': "1x20"},
        "15m",
        now='dreamseed_replica_ready{replica="r0"} 0',
    ),
    Case(
        "DreamseedEngineHung",
        {'dreamseed_replica_transitions_total{replica="r0",state="hung",reason="no_progress"}': "0 0 1x10"},
        "5m",
        now='dreamseed_replica_transitions_total{replica="r0",state="hung",reason="no_progress"} $n',
    ),
    # As the gateway tells it: nothing before the first time.
    Case(
        "DreamseedEngineHung",
        {
            'dreamseed_replica_transitions_total{replica="r0",state="hung",reason="no_progress",box="b"}': (
                "_x20 1x20"
            ),
            _PART.format("gateway"): "1x40",
        },
        "25m",
    ),
    Case(
        "DreamseedQueueWait",
        {
            'dreamseed_queue_wait_seconds_bucket{priority="premium",replica="r0",le="1.0"}': "0x30",
            'dreamseed_queue_wait_seconds_bucket{priority="premium",replica="r0",le="5.0"}': "0+60x30",
            'dreamseed_queue_wait_seconds_bucket{priority="premium",replica="r0",le="+Inf"}': "0+60x30",
        },
        "15m",
        now="""\
dreamseed_queue_wait_seconds_bucket{priority="premium",replica="r0",le="1.0"} 0
dreamseed_queue_wait_seconds_bucket{priority="premium",replica="r0",le="5.0"} $n
dreamseed_queue_wait_seconds_bucket{priority="premium",replica="r0",le="+Inf"} $n""",
    ),
    Case(
        "DreamseedSloBurnsFast",
        {_DURATION: "0+100x70", _GOOD: "0+80x70", _FIRST: "0+100x70"},
        "1h",
        now=_ALL_LATE,
    ),
    # Broken off after a first token that was in time; and nothing but failures, none of which had one.
    Case(
        "DreamseedSloBurnsFast",
        {_DURATION: "0+80x70", _FAILED: "0+20x70", _GOOD: "0+100x70", _FIRST: "0+100x70"},
        "1h",
    ),
    Case("DreamseedSloBurnsFast", {_FAILED: "0+100x70"}, "1h"),
    # As many again were cancelled, quick as they were.
    Case(
        "DreamseedSloBurnsFast",
        {_DURATION: "0+100x70", _GOOD: "0+160x70", _FIRST: "0+200x70"},
        "1h",
    ),
    Case(
        "DreamseedSloBurnsSlowly",
        {_DURATION: "0+100x400", _GOOD: "0+93x400", _FIRST: "0+100x400"},
        "6h",
        now=_ALL_LATE,
    ),
    Case(
        "DreamseedDependencyDown",
        {'dreamseed_dependency_state{dependency="redis"}': "2x10"},
        "5m",
        now='dreamseed_dependency_state{dependency="redis"} 2',
    ),
    Case(
        "DreamseedEventsLost",
        {"dreamseed_events_lost_total": "0 0 3x10"},
        "5m",
        now="dreamseed_events_lost_total $n",
    ),
    *(
        Case(
            "DreamseedCacheMisses",
            {
                _HITS.format(workload, result): f"0+{count}x200"
                for result, count in (("hit", 20), ("miss", 80))
            },
            "3h",
            now=f"""\
dreamseed_cache_lookups_total{{workload="{workload}",result="hit"}} 0
dreamseed_cache_lookups_total{{workload="{workload}",result="miss"}} $n000""",
            labels={"workload": workload},
        )
        for workload in WORKLOADS
    ),
    Case(
        "DreamseedFallbackSpends",
        {"dreamseed_fallback_committed_usd": "0+0.1x70"},
        "1h",
        now="dreamseed_fallback_committed_usd $n0",
    ),
    Case("DreamseedGpuHot", {'dreamseed_gpu_hot{gpu="1"}': "1x10"}, "5m", now='dreamseed_gpu_hot{gpu="1"} 1'),
    Case(
        "DreamseedGpuOut",
        {'dreamseed_gpu_usable{gpu="1"}': "0x10"},
        "1m",
        now='dreamseed_gpu_usable{gpu="1"} 0',
    ),
    Case(
        "DreamseedGpuErrors",
        {'dreamseed_gpu_ecc_uncorrected{gpu="1"}': "0 0 2x10"},
        "5m",
        now='dreamseed_gpu_ecc_uncorrected{gpu="1"} $n',
    ),
    Case(
        "DreamseedDiskFills",
        {"dreamseed_disk_free_bytes": "5x30", "dreamseed_disk_size_bytes": "100x30"},
        "15m",
        now="dreamseed_disk_free_bytes 5\ndreamseed_disk_size_bytes 100",
    ),
    Case(
        "DreamseedDiskFills",
        {"dreamseed_disk_free_bytes": "60-0.05x480", "dreamseed_disk_size_bytes": "100x480"},
        "8h",
    ),
    Case(
        "DreamseedCertificateEnds",
        {'dreamseed_certificate_expiry_timestamp_seconds{file="s.crt",kind="server"}': "86400x10"},
        "5m",
        now='dreamseed_certificate_expiry_timestamp_seconds{file="s.crt",kind="server"} 1',
    ),
    Case("DreamseedOnBattery", {"dreamseed_ups_on_battery": "1x10"}, "1m", now="dreamseed_ups_on_battery 1"),
    Case(
        "DreamseedUpsUnseen",
        {"dreamseed_ups_communication": "0x10"},
        "8m",
        now="dreamseed_ups_communication 0",
    ),
    Case(
        "DreamseedUpsBattery",
        {"dreamseed_ups_replace_battery": "1x20"},
        "15m",
        now="dreamseed_ups_replace_battery 1",
    ),
    Case("DreamseedUpsOverload", {"dreamseed_ups_overload": "1x20"}, "8m", now="dreamseed_ups_overload 1"),
    Case(
        "DreamseedRpoMissed",
        {
            'dreamseed_backup_rpo_seconds{box="b"}': "1000x20",
            'dreamseed_backup_rpo_target_seconds{box="b"}': "900x20",
        },
        "10m",
    ),
    Case(
        "DreamseedRpoMissed",
        {
            'dreamseed_backup_rpo_seconds{box="b"}': "Inf " * 20,
            'dreamseed_backup_rpo_target_seconds{box="b"}': "900x20",
        },
        "10m",
        now="dreamseed_backup_rpo_seconds +Inf\ndreamseed_backup_rpo_target_seconds 900",
    ),
    Case(
        "DreamseedLooksStopped",
        {"dreamseed_backup_looked_timestamp_seconds": "0x60"},
        "40m",
        now="dreamseed_backup_looked_timestamp_seconds 1",
    ),
    *(
        Case(
            "DreamseedBackupAlarm",
            {f'dreamseed_backup_alarm{{alarm="{alarm}"}}': "1x20"},
            "10m",
            now=f'dreamseed_backup_alarm{{alarm="{alarm}"}} 1',
        )
        for alarm in ("failed", "late", "blind", "wal")
    ),
    Case(
        "DreamseedBackupOverdue",
        {"dreamseed_backup_last_success_timestamp_seconds": "0 -100000x10"},
        "5m",
        now="dreamseed_backup_last_success_timestamp_seconds 1",
    ),
    Case("DreamseedBackupUnknown", dict(_UP), "30h", now="", box=NO_GATEWAY),
    Case(
        "DreamseedBackupUnknown",
        {**_UP, 'dreamseed_backup_last_success_timestamp_seconds{box="b"}': "0+60x2000"},
        "30h",
    ),
    Case("DreamseedWalGap", {"dreamseed_backup_wal_gaps": "1x10"}, "1m", now="dreamseed_backup_wal_gaps 1"),
    Case(
        "DreamseedWalFillsDisk",
        {"dreamseed_backup_wal_disk_alert": "1x10"},
        "1m",
        now="dreamseed_backup_wal_disk_alert 1",
    ),
    Case(
        "DreamseedDrillOverdue",
        {'dreamseed_drill_last_success_timestamp_seconds{scenario="lost-host"}': "0 -3300000x10"},
        "5m",
        now='dreamseed_drill_last_success_timestamp_seconds{scenario="lost-host"} 1',
    ),
    Case(
        "DreamseedDrillFailed",
        {'dreamseed_drill_passed{scenario="lost-host"}': "0x10"},
        "1m",
        now='dreamseed_drill_passed{scenario="lost-host"} 0',
    ),
    Case(
        "DreamseedDrillUnknown",
        {'dreamseed_backup_last_success_timestamp_seconds{box="b"}': "0+60x2000"},
        "30h",
        now="dreamseed_backup_last_success_timestamp_seconds 1",
        box=NO_DRILL,
    ),
)

QUIET = {
    _DURATION: " ".join(f"{hour * 5 + part}x11" for hour in range(8) for part in range(5)),
    _FIRST: " ".join(f"{hour * 5 + part}x11" for hour in range(8) for part in range(5)),
    _GOOD: " ".join(f"{hour * 4 + min(part, 3)}x11" for hour in range(8) for part in range(5)),
    _HITS.format("question", "hit"): "0x480",
    _HITS.format("question", "miss"): " ".join(f"{n}x11" for n in range(40)),
}
"""A night with five requests an hour, one of which is late, and questions of which each is another."""
