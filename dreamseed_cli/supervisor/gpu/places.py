"""Which of the readings belongs to which card of ours.

An index is a place in NVML's count: when NVML starts anew without a card that has fallen off the bus, the
cards after it move up. So a card is known by its uuid once that is known.
"""

from __future__ import annotations

from dreamseed_cli.supervisor.gpu.reading import CardReading, Loss, LostCard, Poll


def find(poll: Poll, index: int, uuid: str) -> CardReading | LostCard:
    """Our card in a poll. index: the one it had at first. uuid: empty while unknown."""
    everything: tuple[CardReading | LostCard, ...] = (*poll.cards, *poll.lost)
    for told in everything:
        if told.uuid == uuid if uuid else told.index == index:
            return told
    for lost in poll.lost:
        # It could not even be asked for its uuid; the cards before it have not moved.
        if not lost.uuid and lost.index == index:
            return lost
    return LostCard(index, uuid, Loss.NOT_FOUND, "NVML no longer lists it")
