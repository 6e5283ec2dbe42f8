"""What a run tells of itself while it goes on."""

from __future__ import annotations

from dreamseed_cli.bench.messages import Tick
from dreamseed_cli.bench.progress import Board
from dreamseed_cli.bench.shapes import Cell, Rate


def _tick(begun: int, in_flight: int, tokens: int, *ttfts_s: float, failed: int = 0) -> Tick:
    return Tick(begun, in_flight, failed, tokens, list(ttfts_s))


def _board() -> Board:
    return Board(Cell(name="poisson-4", shape=Rate(4.0), duration_s=10.0, seed=1))


def test_processes_add_up() -> None:
    """Counts and rates are of all processes, the median is over all of their answers."""
    progress = _board().look(2.0, [_tick(10, 4, 100, 0.1, 0.2), _tick(6, 1, 60, 0.9, failed=2)])
    assert (progress.begun, progress.in_flight, progress.ended, progress.failed) == (16, 5, 11, 2)
    assert (progress.requests_per_s, progress.tokens_per_s, progress.ttft_p50_s) == (8.0, 80.0, 0.2)
    assert (progress.elapsed_s, progress.left_s) == (2.0, 8.0)


def test_rates_forget_the_beginning() -> None:
    """A load that has stopped shows no rate, however much it did before."""
    board = _board()
    for at_s in (1.0, 2.0, 3.0, 4.0, 5.0):
        progress = board.look(at_s, [_tick(100, 0, 1000)])
    assert (progress.requests_per_s, progress.tokens_per_s, progress.ttft_p50_s) == (0.0, 0.0, None)


def test_a_lost_process_is_no_negative_rate() -> None:
    """It takes its counts along when it dies."""
    board = _board()
    board.look(1.0, [_tick(10, 0, 100), _tick(10, 0, 100)])
    board.look(2.0, [_tick(10, 0, 100), _tick(10, 0, 100)])
    for at_s in (3.0, 4.0, 5.0):
        progress = board.look(at_s, [_tick(10, 0, 100), _tick(0, 0, 0)])
    assert (progress.requests_per_s, progress.tokens_per_s) == (0.0, 0.0)


def test_before_the_start_nothing_has_gone_by() -> None:
    """A look between the word to begin and the beginning divides by nothing."""
    progress = _board().look(-0.1, [_tick(0, 0, 0)])
    assert (progress.elapsed_s, progress.requests_per_s, progress.left_s) == (0.0, 0.0, 10.1)
