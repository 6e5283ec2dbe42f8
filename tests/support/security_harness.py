"""What the security tests share: an authority, files of its certificates, and a small server over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography.x509 import load_der_x509_certificate

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.gateway.proto import SERVICE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.authority import Issued, issue_client, issue_server, make_authority
from dreamseed_cli.gateway.security.caller import CallerCheck
from dreamseed_cli.gateway.security.credentials import Credentials
from dreamseed_cli.gateway.security.server import ServerCertificates
from dreamseed_cli.gateway.status import grpc_status
from dreamseed_cli.profile.schema import Security, Tls

Context = grpc.aio.ServicerContext[GenerateRequest, GenerateResponse]
NAME = "gpu.dreamseed.test"
# One fetch of the certificates at every handshake: tests do not wait for the next second.
_AT_ONCE = 0.0


def ago(days: int) -> datetime:
    """A moment in the past: what was issued then for a day less has expired."""
    return datetime.now(UTC) - timedelta(days=days)


@dataclass
class Office:
    """An authority and the folder where its certificates lie as files."""

    folder: Path
    authority: Issued = field(default_factory=lambda: make_authority(ago(1000)))

    def server(self, *names: str, days: int = 100, issued_days_ago: int = 0) -> Issued:
        return issue_server(self.authority, names or (NAME,), ago(issued_days_ago), days)

    def client(self, name: str = "front", *, days: int = 100, issued_days_ago: int = 0) -> Issued:
        return issue_client(self.authority, name, ago(issued_days_ago), days)

    def put(self, stem: str, issued: Issued) -> tuple[Path, Path]:
        """Write a pair as `stem.crt` and `stem.key`."""
        return (
            self.put_bytes(f"{stem}.crt", issued.certificate_pem()),
            self.put_bytes(f"{stem}.key", issued.key_pem()),
        )

    def put_bytes(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        """Replace a file in one step."""
        draft, path = self.folder / f"{name}.draft", self.folder / name
        draft.write_bytes(content)
        draft.chmod(mode)
        draft.replace(path)
        return path

    def ca(self) -> Path:
        """The authority's certificate as a file."""
        return self.put_bytes("ca.crt", self.authority.certificate_pem())

    def tls(self, issued: Issued | None = None, *, client_ca: bool = False) -> Tls:
        """A gateway's settings; its files are `server.crt` and `server.key`."""
        certificate, key = self.put("server", issued or self.server())
        return Tls(
            certificate=str(certificate),
            key=str(key),
            client_ca=str(self.ca()) if client_ca else None,
            require_client_certificate=client_ca,
        )


@dataclass
class Desk:
    """A gateway's door without a gateway: it checks callers and says what they showed."""

    port: int
    seen: list[Credentials]
    release: asyncio.Event

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class _Service:
    def __init__(self, check: CallerCheck, desk: Desk) -> None:
        self._check = check
        self._desk = desk

    async def generate(self, request: GenerateRequest, context: Context) -> GenerateResponse:
        await self._let_in(context)
        return GenerateResponse(text=request.prompt, finish_reason="stop", replica="r0")

    async def generate_stream(self, request: GenerateRequest, context: Context) -> None:
        """One message, and the last when the desk is told to."""
        await self._let_in(context)
        await context.write(GenerateResponse(text=request.prompt))
        await self._desk.release.wait()
        await context.write(GenerateResponse(finish_reason="stop", replica="r0"))

    async def _let_in(self, context: Context) -> None:
        try:
            self._desk.seen.append(self._check.credentials(context, context.invocation_metadata()))
        except DreamseedError as error:
            await context.abort(*grpc_status(error))


def served_serial(port: int) -> int:
    """The serial number of the certificate that a new connection to 127.0.0.1 gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as connection:
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return load_der_x509_certificate(found).serial_number


def _handler(service: _Service) -> grpc.GenericRpcHandler:
    reader, writer = GenerateRequest.FromString, GenerateResponse.SerializeToString
    methods: dict[str, grpc.RpcMethodHandler[GenerateRequest, GenerateResponse]] = {
        "Generate": grpc.unary_unary_rpc_method_handler(service.generate, reader, writer),
        "GenerateStream": grpc.unary_stream_rpc_method_handler(service.generate_stream, reader, writer),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@asynccontextmanager
async def desk(security: Security, *, loopback: bool = False) -> AsyncIterator[Desk]:
    """A server on 127.0.0.1; loopback: whether it takes itself to be reachable from there only."""
    check = CallerCheck(security, loopback=loopback)
    made = Desk(0, [], asyncio.Event())
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handler(_Service(check, made)),))
    if security.tls is None:
        made.port = server.add_insecure_port("127.0.0.1:0")
    else:
        certificates = ServerCertificates(security.tls, interval_s=_AT_ONCE)
        made.port = server.add_secure_port("127.0.0.1:0", certificates.credentials())
    await server.start()
    try:
        yield made
    finally:
        await server.stop(0)
