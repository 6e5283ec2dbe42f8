"""What an answer was worth: its pieces and the server's own count held against each other. Pure."""

from __future__ import annotations

import errno

from dreamseed_cli.bench.records import Ending, Record

_FULL = frozenset({429, 503})
# The bytes of a half character may each be a token that shows nothing, and so may an end mark.
UNSEEN_TOKENS = 4
REJECTED_CODES = frozenset(
    {
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
)
"""gRPC's names for a request that is wrong itself."""

OWN_LIMITS = {
    errno.EMFILE: "this client ran out of file descriptors (ulimit -n)",
    errno.ENFILE: "this machine ran out of open files (fs.file-max)",
    errno.EADDRNOTAVAIL: "this client ran out of ports (net.ipv4.ip_local_port_range)",
}
"""Why a connection came about in no way that a server could help, by the system's number."""


def of_status(status: int) -> Ending:
    """How a whole HTTP answer with this status ended."""
    if status in _FULL:
        return Ending.REFUSED
    if status >= 500:
        return Ending.SERVER_ERROR
    return Ending.REJECTED if status >= 400 else Ending.COMPLETE


class Reception:
    """Notes one answer in its record as it arrives.

    finish_reason: the server's, None until it comes. Times are seconds since the cell's start.
    """

    __slots__ = ("_fell", "_total", "finish_reason", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        record.piece_s, record.piece_tokens = [], []
        self.finish_reason: str | None = None
        self._total = 0
        self._fell = False

    def note(self, at_s: float, *, text: str, total: int | None, finish_reason: str | None) -> None:
        """One message of the answer: its text, and the running total of tokens if it tells one.

        A growing total without text is a token too: one that shows nothing (half a character, an end mark).
        The first token is the first that shows something: a server may count one before it has any to show.
        """
        before = self._total
        if total is not None:
            self.tell(total)
        if finish_reason is not None:
            self.finish_reason = finish_reason
        # A total that comes only with the end tells of the whole answer, not of a token at that moment.
        counted = total is not None and total > before and (before > 0 or finish_reason is None)
        if text or counted:
            self._piece(at_s, total or 0)
        if text:
            self._text(at_s, text)

    def tell(self, total: int) -> None:
        """The running total of tokens, told by itself."""
        self._fell = self._fell or total < self._total
        self._total = self.record.completion_tokens = total

    def _piece(self, at_s: float, total: int) -> None:
        record = self.record
        record.last_token_s = at_s
        record.piece_s.append(at_s)
        record.piece_tokens.append(total)

    def _text(self, at_s: float, text: str) -> None:
        record = self.record
        if record.first_token_s is None:
            record.first_token_s = at_s
        # What a server says may hold halves of characters, which no encoding knows.
        record.text_bytes += len(text if text.isascii() else text.encode(errors="surrogatepass"))

    def end(self, ending: Ending, detail: str) -> None:
        """It ended in another way than with a whole answer."""
        self.record.ending, self.record.detail = ending, detail

    def judge(self) -> None:
        """The server calls the answer complete: whether it is, and whether its count can be true."""
        self.record.ending, self.record.detail = self._verdict()

    def _verdict(self) -> tuple[Ending, str]:
        record, told = self.record, self.record.completion_tokens
        if self.finish_reason is None:
            return Ending.CUT, "the stream ended without a finish_reason"
        lie = self._lie(told)
        if told is None or lie is not None:
            return Ending.MISCOUNTED, lie or ""
        if record.forced and told < record.wanted_tokens:
            reason = self.finish_reason
            return Ending.WRONG_LENGTH, f"shorter than the forced length (finish_reason {reason})"
        return Ending.COMPLETE, ""

    def _lie(self, told: int | None) -> str | None:
        """Why the told usage cannot be true; no figures in it, so that equal reasons add up."""
        if told is None:
            return "the server tells no usage, so its tokens cannot be counted"
        if self._fell:
            return "the running total of tokens fell within the answer"
        if told > UNSEEN_TOKENS and self.record.first_token_s is None:
            return "the usage tells tokens, and no text came"
        if told < len(self.record.piece_s):
            return "the usage tells fewer tokens than pieces of text came"
        if told > self.record.wanted_tokens:
            return "the usage tells more tokens than were asked for"
        return None
