"""What a burst's figures mean."""

from dreamseed_cli.demo.burst import Burst
from dreamseed_cli.gateway.client import Answer


def _answer(tokens: int, replica: str, ttft_s: float | None) -> Answer:
    return Answer("text", tokens, 5, "stop", replica, ttft_s, 1.0, simulated=True)


def test_the_rate_is_all_tokens_over_the_whole_time() -> None:
    """Concurrent answers share the time; their own rates do not add up to it."""
    burst = Burst((_answer(10, "r0", 0.1), _answer(30, "r1", 0.3)), elapsed_s=2.0)
    assert burst.tokens_per_s == 20.0
    assert burst.answers_by_replica() == {"r0": 1, "r1": 1}


def test_answers_without_text_have_no_time_to_first_token() -> None:
    """They are left out of the quantiles, not counted as zero."""
    burst = Burst((_answer(1, "r0", None), _answer(1, "r0", 0.2), _answer(1, "r0", 0.4)), elapsed_s=1.0)
    assert list(burst.ttft_s) == [0.2, 0.4]
    assert round(burst.median_ttft_s, 3) == 0.3
