"""What the care of the cards asks of whoever runs the engines."""

from __future__ import annotations

from typing import Protocol

from dreamseed_cli.supervisor.gpu.ladder import CardState, Reason


class CardOwner(Protocol):
    """Runs engines on cards. For one card nothing is called while another call for it is under way.

    Two cards may be climbing at once, also two of one engine: what is asked for the second time then need
    only be waited for. Every call bounds its own time, and bears to be cancelled when the stack goes down.
    """

    def cards(self) -> frozenset[int]:
        """The cards that our engines use, by their index in PCI order."""

    def pids(self, card: int) -> frozenset[int]:
        """The processes of ours that may use the card now."""

    async def end_processes(self, card: int) -> None:
        """End every process of ours on the card, and keep it down until `restart`."""

    async def restart(self, card: int) -> bool:
        """Start the card's engine again: True once it has generated a token, False if it does not come up.

        Also called when an operator has released the card.
        """

    async def quarantine(self, card: int, reason: str) -> None:
        """Take the card out of use: end what of ours is left on it, and go on with the other cards."""

    def told(self, card: int, state: CardState, reason: Reason, detail: str) -> None:
        """A card has come to stand elsewhere: for the log, the metrics and the incidents."""
