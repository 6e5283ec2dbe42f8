"""Which certificates are told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gateway_harness import settings
from prometheus_client.parser import text_string_to_metric_families
from security_harness import Office, ago

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.security.authority import make_authority
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.monitoring.serve import collectors
from dreamseed_cli.profile.schema import Security, Tls
from dreamseed_cli.supervisor.state import gateway_file


def _told(root: Path, folder: Path, tls: Tls) -> tuple[dict[str, float], dict[str, str]]:
    """Days left and condition of each file, where the gateway serves with these."""
    state = StateDir(root)
    told = settings(root, security=Security(tls=tls)).model_dump_json()
    gateway_file(state).write_text(told)
    text = asyncio.run(_text(state, CertificateFolder(folder)))
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    now = datetime.now(UTC).timestamp()
    left = {one.labels["file"]: (one.value - now) / 86400 for one in samples if one.name.endswith("_seconds")}
    alarming = {
        one.labels["file"]: one.labels["condition"] for one in samples if one.name.endswith("_alarming")
    }
    return left, alarming


async def _text(state: StateDir, folder: CertificateFolder) -> str:
    return (await collectors(state, folder)["certificates"]()).decode()


def test_the_certificate_that_the_gateway_serves_with_is_told_wherever_it_lies(tmp_path: Path) -> None:
    """A chain ends with the first of it, and who may come in with their authority."""
    office = Office(tmp_path)
    certificate, key = office.put("front", office.server(days=50))
    short = make_authority(ago(0), 20).certificate_pem()
    certificate.write_bytes(certificate.read_bytes() + short)
    ca = office.put_bytes("callers.crt", make_authority(ago(0), 5).certificate_pem())
    left, alarming = _told(
        tmp_path, tmp_path / "none", Tls(certificate=str(certificate), key=str(key), client_ca=str(ca))
    )
    assert left == {str(certificate): pytest.approx(20, abs=0.1), str(ca): pytest.approx(5, abs=0.1)}
    assert alarming == {str(certificate): "good", str(ca): "due for renewal"}


def test_one_that_could_not_serve_is_broken(tmp_path: Path) -> None:
    """Its key is the one that the gateway reads, whatever its name."""
    office = Office(tmp_path)
    certificate, _ = office.put("front", office.server(days=50))
    _, other = office.put("other", office.server(days=50))
    for key in (other, tmp_path / "away"):
        _, alarming = _told(tmp_path, tmp_path / "none", Tls(certificate=str(certificate), key=str(key)))
        assert alarming == {str(certificate): "broken"}


def test_one_in_the_users_folder_is_told_as_the_gateway_serves_it(tmp_path: Path) -> None:
    """With the key that the profile names, not the one that would lie beside it; the others are told, too."""
    folder = CertificateFolder(tmp_path / "certs")
    folder.create(["gpu.test"], ["front"], datetime.now(UTC), 100, renew=False)
    server, key = folder.server, tmp_path / "gateway.key"
    server.key.replace(key)
    _, alarming = _told(tmp_path, folder.root, Tls(certificate=str(server.certificate), key=str(key)))
    assert alarming == {
        str(server.certificate): "good",
        str(folder.authority.certificate): "good",
        str(folder.client("front").certificate): "good",
    }
