"""The documented examples that do not run beside a running stack, and the tests that do what they do."""

from __future__ import annotations

from collections.abc import Mapping

ELSEWHERE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "e2e/test_serve_lifecycle.py": {
        "test_from_start_to_stop_nothing_is_left": ("serve*", "stop"),
        "test_a_rolling_restart_restarts_each_once": (
            "restart",
            "restart --replica r0 --replica r2 --no-wait",
        ),
        "test_top_drains_an_engine_and_takes_it_back": ("top",),
        "test_an_answer_comes_through": ("ask",),
    },
    "e2e/test_paying_user.py": {
        "test_a_paying_user_gets_premium_and_a_free_one_what_its_tier_allows": ("ask * --address *",),
    },
    "integration/test_api_process.py": {
        "test_sigterm_lets_running_answers_finish": ("api*",),
    },
    "e2e/test_demo.py": {
        "test_the_demo_answers_measures_and_stops": ("demo*",),
    },
    "integration/test_monitoring_serve.py": {
        "test_they_are_offered_until_the_process_is_told_to_end": ("metrics --listen *",),
    },
    "e2e/test_fault_matrix.py": {
        "test_a_fault_under_load_loses_no_request": ("chaos hang *",),
    },
    "unit/costsim/test_costsim_study.py": {
        "test_as_many_steps_are_told_as_the_bar_has": ("cost-sim * --optimise *",),
    },
    "unit/commands/test_cost_sim_command.py": {
        "test_a_bench_result_alone_tells_how_well_it_is_foretold": ("cost-sim --bench *",),
    },
    "e2e/test_bench.py": {
        "test_a_run_is_measured_written_and_comparable": ("bench", "bench --suite batching"),
    },
    "integration/test_bench_load.py": {
        "test_our_front_is_asked_alike": ("bench --suite api",),
        "test_every_scheduled_request_is_recorded_once": ("bench --target * --suite *",),
    },
    "integration/test_bench_cache.py": {
        "test_writes_and_look_ups_are_timed": ("bench --suite cache",),
    },
    "integration/test_bench_db.py": {
        "test_a_stacks_server_is_measured_and_left_as_it_was": ("bench --suite db",),
    },
    "integration/test_bench_locust.py": {
        "test_every_request_is_counted_once_by_all_who_count": ("bench --suite load",),
    },
    "unit/bench/test_bench_sweeps.py": {
        "test_scaling_is_the_whole_farm_beside_one_replica": ("bench --suite engine *",),
        "test_a_named_workload_is_asked_with_its_own_lengths": ("bench --suite capacity *",),
    },
    "unit/bench/test_bench_campaign.py": {
        "test_a_suite_that_cannot_run_leaves_the_others": ("bench --suite all *",),
    },
    "integration/test_bench_stack.py": {
        "test_a_stack_of_its_own_serves_while_it_is_measured": ("bench --profile *",),
    },
    "integration/test_bench_replay.py": {
        "test_the_documented_replay_runs": ("bench --target * --trace *",),
    },
    "unit/commands/test_backup_command.py": {
        "test_init_prints_the_recovery_key_once_and_never_overwrites": ("backup init",),
        "test_a_fetch_without_a_key_stops_recovery": ("wal fetch *",),
    },
    "integration/test_backup_commands.py": {
        "test_a_logical_backup_comes_back_with_equal_digests": ("restore --database * --yes",),
    },
    "unit/backup/test_backup_folders.py": {
        "test_a_folder_comes_back": ("restore --folders-into * --yes",),
    },
    "integration/test_backup_pitr.py": {
        "test_before_a_delete_then_on_a_new_timeline": ("restore --lsn * --yes",),
        "test_a_named_point": ("restore --point * --yes",),
        "test_a_moment_that_the_archive_does_not_reach": ("restore --time *",),
    },
    "integration/test_backup_wal_stalls.py": {
        "test_one_hung_call_costs_its_silence_alone": ("wal push *",),
    },
    "unit/backup/test_backup_schedule.py": {
        "test_the_timer_is_put_in_place_and_taken_away": ("schedule install", "schedule remove"),
    },
    "integration/test_drill.py": {
        "test_lost_host": ("drill lost-host --link-mbps *",),
        "test_lost_database": ("drill lost-database",),
        "test_bad_deploy": ("drill bad-deploy",),
        "test_failover": ("drill failover",),
    },
    "unit/ups/test_ups_command.py": {
        "test_a_watch_stops_the_box_and_tells_how": ("ups watch",),
        "test_a_real_rehearsal_spares_ups_and_host": ("ups test --real-services",),
    },
    "integration/test_database_standby.py": {
        "test_the_commands": ("db watch*", "db promote *", "db failback *"),
    },
    "unit/commands/test_user_command.py": {
        "test_users_are_added_and_listed": ("user add ann --tier paid",),
    },
    "unit/commands/test_certs_command.py": {
        "test_create_prints_lines_that_a_gateway_beyond_loopback_starts_with": ("certs create",),
    },
}
"""By file and test, as patterns of fnmatch(3), the first that fits. Such an example changes the machine, does
not end, takes minutes, or needs what is not there: a terminal, a UPS, a standby, another host, an archive.
"""
