"""vLLM's command line as a pure function of the profile: as a process, or as `docker run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dreamseed_cli.engine.types import Command, Endpoint
from dreamseed_cli.profile.schema import VllmEngine

# The `vllm` script cannot start the CPU build (its distribution has another name); this module is
# the code behind `vllm serve` in both builds.
_SERVER_MODULE = "vllm.entrypoints.launchers.api_server.entry"

# Polled every second: without this the log would be nothing else.
_QUIET_ENDPOINTS = "/health,/metrics"


def vllm_command(
    engine: VllmEngine, *, container: str, model: str, cards: Sequence[int], endpoint: Endpoint
) -> Command:
    """The command that starts one replica.

    container: its name under the docker launcher. model: a folder or a Hugging Face id, as vLLM
    takes it. cards: the indices of its GPUs (empty on the CPU). endpoint: a Unix socket, or for the docker
    launcher a loopback URL. Engines have no access control worth the name, so never a public address.
    """
    if engine.launcher == "docker":
        return _docker_command(engine, container=container, model=model, cards=cards, endpoint=endpoint)
    argv = (sys.executable, "-m", _SERVER_MODULE, "--model", model, *_listen(endpoint), *_arguments(engine))
    return Command(argv, {**_environment(engine), **_card_environment(engine, cards)})


def _arguments(engine: VllmEngine) -> list[str]:
    """What a replica is told, however it is launched."""
    arguments = {
        "--served-model-name": engine.served_name,
        "--dtype": engine.dtype,
        "--max-model-len": engine.max_model_len,
        "--max-num-seqs": engine.max_num_seqs,
        # vLLM counts the running requests among the queued ones.
        "--max-num-queued-reqs": engine.max_num_seqs + engine.max_queued_requests,
        "--tensor-parallel-size": engine.tensor_parallel_size,
        "--kv-cache-dtype": engine.kv_cache_dtype,
        "--scheduling-policy": "priority",
        "--shutdown-timeout": engine.shutdown_timeout_s,
        "--disable-access-log-for-endpoints": _QUIET_ENDPOINTS,
    }
    if engine.quantization:
        arguments["--quantization"] = engine.quantization
    if engine.device == "cuda":
        arguments["--gpu-memory-utilization"] = engine.gpu_memory_utilization
    flags = ["--enable-prefix-caching" if engine.prefix_caching else "--no-enable-prefix-caching"]
    if engine.enforce_eager:
        flags.append("--enforce-eager")
    pairs = [text for option, value in arguments.items() for text in (option, str(value))]
    return [*pairs, *flags, *engine.extra_args]


def _environment(engine: VllmEngine) -> dict[str, str]:
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if engine.device == "cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(engine.cpu_kv_cache_gib)
    return environment


def _card_environment(engine: VllmEngine, cards: Sequence[int]) -> dict[str, str]:
    if engine.device == "cpu":
        # A model in a folder needs no hub; a missing file should say so instead of waiting for one.
        return {"HF_HUB_OFFLINE": "1"}
    # Without PCI order, CUDA numbers cards by speed and NVML by slot: `card 1` would be two cards.
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(str(card) for card in cards),
    }


def _listen(endpoint: Endpoint) -> list[str]:
    if endpoint.socket is not None:
        return ["--uds", str(endpoint.socket)]
    host, port = _loopback(endpoint)
    return ["--host", host, "--port", str(port)]


def _loopback(endpoint: Endpoint) -> tuple[str, int]:
    parts = urlsplit(endpoint.url or "")
    if parts.hostname != "127.0.0.1" or parts.port is None:
        raise ValueError(f"an engine listens on 127.0.0.1 with a port, not on {endpoint}")
    return parts.hostname, parts.port


def _docker_command(
    engine: VllmEngine, *, container: str, model: str, cards: Sequence[int], endpoint: Endpoint
) -> Command:
    host, port = _loopback(endpoint)
    devices = ",".join(str(card) for card in cards)
    argv = ["docker", "run", "--rm", "--init", "--name", container]
    # --ipc=host: PyTorch's workers share tensors through /dev/shm, 64 MB in a container by default.
    argv += ["--gpus", f'"device={devices}"', "--ipc=host", "--publish", f"{host}:{port}:8000"]
    argv += ["--volume", f"{Path(engine.docker.model_cache).expanduser()}:/root/.cache/huggingface"]
    if Path(model).is_absolute():
        argv += ["--volume", f"{model}:{model}:ro"]
    for key, value in _environment(engine).items():
        argv += ["--env", f"{key}={value}"]
    # By name only: docker takes the value from its own environment, so no token stands in an argv.
    argv += ["--env", "HF_TOKEN", engine.docker.image, "--model", model]
    return Command((*argv, "--host", "0.0.0.0", "--port", "8000", *_arguments(engine)))  # noqa: S104 - inside the container's own network; published on loopback only
