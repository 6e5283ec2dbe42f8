"""The UPS of the box, when it stops the box in order, and how long that may take (§H3)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.profile.part import Part, Port, Positive

Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0)]
Argv = tuple[str, ...]


class UpsBoxes(Part):
    """How long each step of the shutdown may take, in seconds; what has not ended by then is made to."""

    streams_s: Positive = 20.0
    """Running answers may finish; then they are cut."""
    flush_s: Positive = 5.0
    """Events of the journal go to PostgreSQL; what does not stays in the journal, on disk."""
    wal_s: Positive = 20.0
    """The last WAL goes to the archive; left out where the battery does not last for it."""
    gateway_s: Positive = 10.0
    engines_s: Positive = 20.0
    """Then they are killed: vLLM may ignore SIGTERM."""
    relay_s: Positive = 5.0
    postgres_s: Positive = 30.0
    """A fast shutdown with its checkpoint. One that is cut short loses nothing and recovers at its start."""
    redis_s: Positive = 5.0
    rest_s: Positive = 10.0
    """Whatever of the stack is left."""
    command_s: Positive = 10.0
    """Each command of yours, and the word to the UPS."""


class Ups(Part):
    """The UPS and the orderly shutdown of the box. Commands are argument lists, run without a shell."""

    source: Literal["apcupsd", "nut", "none"] = "none"
    """Who tells of the UPS: apcupsd's network server (NIS), NUT's upsd; `none`: nothing stops the box."""
    host: str = "127.0.0.1"
    port: Port | None = None
    """None: 3551 (apcupsd) or 3493 (NUT)."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "ups"
    """The UPS's name in NUT's ups.conf."""
    poll_s: Positive = 1.0
    answer_timeout_s: Positive = 2.0
    """How long one answer may take, from the connection to its end."""
    charge_below_percent: Percent = 20.0
    """On battery: stop below this charge (§H3)."""
    margin_s: Seconds = 60.0
    """On battery: stop when the time left is less than the shutdown and the host take, and this."""
    host_down_s: Seconds = 20.0
    """How long the host takes from its step of the shutdown until it needs no power."""
    max_on_battery_s: Positive | None = 1800.0
    """On battery: stop after so long whatever is left; None: as long as the battery lasts."""
    hold_s: Seconds = 5.0
    """How long the reason must hold before anything is stopped."""
    runtime_at_rating_s: Positive = 600.0
    """How long the full battery carries `box.ups_w` (§H3: 1,500 W for 10 minutes)."""
    blind_pace: Annotated[float, Field(ge=1)] = 2.0
    """On battery and without word from the UPS: what was left is counted down so many times as fast."""
    shed_batch: bool = True
    """On battery: refuse BATCH requests, with the time to try again."""
    shed_power_limit_w: Positive | None = None
    """On battery: lower every card's power limit to this through NVML, which needs root; None: leave it."""
    host_shutdown: Argv = ("systemctl", "poweroff")
    """The last step. Run only under systemd, or where `--host-step` asks for it."""
    host_shutdown_hard: Argv = ("systemctl", "poweroff", "--force")
    """What is run when that one fails, or does not end in its time; none: nothing."""
    cycle: Argv = ()
    """The command that has the UPS switch off and come back with the mains; none: the flag file that Debian's
    packages of apcupsd and NUT look for at the very end of a shutdown is written."""
    stop_external: dict[Literal["postgres", "redis", "kafka"], Argv] = Field(default_factory=dict)
    """Commands that stop services of yours (`external`), each at its step."""
    boxes: UpsBoxes = UpsBoxes()

    @model_validator(mode="after")
    def _margin_covers_the_hold(self) -> Self:
        if self.margin_s < self.hold_s + self.poll_s + self.answer_timeout_s:
            raise ValueError("margin_s is less than hold_s + poll_s + answer_timeout_s: no step would fit")
        return self
