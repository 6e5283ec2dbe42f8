"""vLLM's command line follows from the profile alone."""

import sys
from pathlib import Path

import pytest

from dreamseed_cli.engine.types import Command, Endpoint
from dreamseed_cli.engine.vllm_command import vllm_command
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import VllmEngine

SOCKET = Endpoint(socket=Path("/run/ds/r0.sock"))
VLLM_PROFILES = [name for name in shipped_names() if load_profile(name).engine.kind == "vllm"]


def _engine(name: str, **changes: object) -> VllmEngine:
    engine = load_profile(name).engine
    assert isinstance(engine, VllmEngine)
    return engine.model_copy(update=changes)


def _command(engine: VllmEngine, endpoint: Endpoint = SOCKET, cards: tuple[int, ...] = ()) -> Command:
    return vllm_command(engine, container="dreamseed-r0", model=engine.model, cards=cards, endpoint=endpoint)


def _option(command: Command, option: str) -> str:
    return command.argv[command.argv.index(option) + 1]


@pytest.mark.parametrize("name", VLLM_PROFILES)
def test_every_shipped_profile_gives_the_safe_command(name: str) -> None:
    """Prefix caching, priorities, a bounded queue, a graceful shutdown and a socket, always."""
    engine = _engine(name)
    command = _command(engine, cards=(0,))
    assert command.argv[:2] == (sys.executable, "-m")
    assert _option(command, "--uds") == "/run/ds/r0.sock"
    assert _option(command, "--model") == engine.model
    assert _option(command, "--scheduling-policy") == "priority"
    assert int(_option(command, "--max-num-queued-reqs")) == engine.max_num_seqs + engine.max_queued_requests
    assert int(_option(command, "--shutdown-timeout")) > 0
    assert _option(command, "--dtype") == engine.dtype
    assert _option(command, "--max-model-len") == str(engine.max_model_len)
    assert _option(command, "--tensor-parallel-size") == str(engine.tensor_parallel_size)
    assert "--enable-prefix-caching" in command.argv
    assert "--host" not in command.argv


def test_a_card_profile_sees_its_cards_only_in_nvmls_order() -> None:
    """Card 1 of NVML is card 1 of CUDA."""
    command = _command(_engine("rtx5090x3"), cards=(1,))
    assert command.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert command.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert _option(command, "--gpu-memory-utilization") == "0.9"
    assert _option(command, "--quantization") == "awq_marlin"


def test_the_cpu_build_gets_its_memory_by_environment() -> None:
    """It has no --gpu-memory-utilization; its KV cache is sized in GiB."""
    command = _command(_engine("laptop"))
    assert command.env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "--gpu-memory-utilization" not in command.argv
    assert "CUDA_VISIBLE_DEVICES" not in command.env


def test_switches_and_further_arguments_pass_through() -> None:
    """What the profile says, stands in the command, the profile's own arguments last."""
    command = _command(_engine("rtx5090x1", prefix_caching=False, extra_args=("--seed", "7")))
    assert "--no-enable-prefix-caching" in command.argv
    assert command.argv[-2:] == ("--seed", "7")
    assert "--enforce-eager" not in command.argv
    assert "--quantization" not in command.argv


def test_docker_publishes_on_loopback_and_names_no_secret() -> None:
    """§G's `docker run --gpus`, with the token passed by name and the port closed to the world."""
    command = _command(
        _engine("rtx5090x3", launcher="docker"), Endpoint(url="http://127.0.0.1:8101"), cards=(0, 2)
    )
    argv = list(command.argv)
    assert argv[:2] == ["docker", "run"]
    assert argv[argv.index("--gpus") + 1] == '"device=0,2"'
    assert argv[argv.index("--publish") + 1] == "127.0.0.1:8101:8000"
    assert argv[argv.index("--name") + 1] == "dreamseed-r0"
    assert "HF_TOKEN" in argv
    assert not any(text.startswith("HF_TOKEN=") for text in argv)
    image = argv.index("vllm/vllm-openai:v0.32.0")
    assert argv.index("--model") > image
    assert "--scheduling-policy" in argv[image:]


def test_docker_mounts_a_model_folder_read_only() -> None:
    """A model on disk is visible inside at the same path."""
    engine = _engine("rtx5090x3", launcher="docker", model="/models/mine")
    command = _command(engine, Endpoint(url="http://127.0.0.1:8101"), cards=(0,))
    assert "/models/mine:/models/mine:ro" in command.argv


@pytest.mark.parametrize("url", ["http://0.0.0.0:8000", "http://192.168.0.2:8000", "http://127.0.0.1"])
def test_an_engine_never_listens_on_a_public_address(url: str) -> None:
    """Whoever calls for it made a mistake."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 with a port"):
        _command(_engine("laptop"), Endpoint(url=url))
