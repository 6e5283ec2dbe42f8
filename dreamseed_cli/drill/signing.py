"""The host's own key for drills: a result that was changed afterwards does not pass for one (Ed25519).

It shows that a record is as this host wrote it. It is no defence against one who holds the key file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.drill.record import DrillRecord, SignedDrill

_NEWEST = b"the newest drill: "
_KEY_BYTES = 32


class SignatureBroken(FailedError):
    """A record is not what was signed, or another key signed it."""

    kind = "signature_broken"


@dataclass(frozen=True, slots=True)
class DrillKey:
    """The key of one state folder."""

    private: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> DrillKey:
        """The key in a file of mode 0600; made if there is none. UsageError if it is no key of ours."""
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(Ed25519PrivateKey.generate().private_bytes_raw())
        data = path.read_bytes()
        if len(data) != _KEY_BYTES:
            raise UsageError(
                "this is no key for drills", place=str(path), remedy="Move it away; a new one is made."
            )
        return cls(Ed25519PrivateKey.from_private_bytes(data))

    @property
    def public(self) -> str:
        """In hexadecimal digits."""
        return self.private.public_key().public_bytes_raw().hex()

    def sign(self, record: DrillRecord) -> SignedDrill:
        """The record's JSON with our signature."""
        text = record.model_dump_json()
        return SignedDrill(
            record=text, public_key=self.public, signature=self.private.sign(text.encode()).hex()
        )

    def mark(self, signature: str) -> str:
        """Says that the record of this signature is the newest."""
        return f"{signature} {self.private.sign(_NEWEST + signature.encode()).hex()}\n"

    def marked(self, text: str) -> str | None:
        """The signature in a mark; None: it is none of ours."""
        signature, _, proof = text.strip().partition(" ")
        try:
            self.private.public_key().verify(bytes.fromhex(proof), _NEWEST + signature.encode())
        except (InvalidSignature, ValueError):
            return None
        return signature


def opened(signed: SignedDrill, public_key: str, place: str) -> DrillRecord:
    """The record, if this key signed it; SignatureBroken if not."""
    if signed.public_key != public_key:
        raise SignatureBroken("another key signed it", place=place, remedy="Look at it by hand, or move it.")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
            bytes.fromhex(signed.signature), signed.record.encode()
        )
    except InvalidSignature as error:
        raise SignatureBroken(
            "it was changed after it was signed", place=place, remedy="Do not believe it; move it away."
        ) from error
    return DrillRecord.model_validate_json(signed.record)
