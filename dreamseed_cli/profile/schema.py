"""The profile's shape: frozen, strict, never holding a secret. A field's description is its reference."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A table of the profile."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Box(Part):
    """The machine this profile is for (§B2)."""

    gpus: Annotated[int, Field(ge=0)] = 0
    """How many cards the stack may use; 0 on a machine without any."""
    gpu_model: str | None = None
    """The card, by its name in the table of cards (`rtx5090`)."""

    @model_validator(mode="after")
    def _cards_are_named(self) -> Self:
        if self.gpus and self.gpu_model is None:
            raise ValueError("gpus is set but gpu_model is not: name the card, such as 'rtx5090'")
        return self


class EngineBase(Part):
    """What every kind of engine has."""

    served_name: str = "dreamseed"
    """The model's name towards clients; the same on every replica."""
    api: Literal["chat", "completions"] = "chat"
    """`chat` applies the model's chat template; `completions` sends the prompt as it is (base models)."""
    start_timeout_s: Positive = 600.0
    """How long a replica may take from its launch to its first token."""


class DockerLaunch(Part):
    """§G's `docker run --gpus`, for those who keep vLLM in a container."""

    image: str = "vllm/vllm-openai:v0.32.0"
    """The image, with its tag: a moving tag would change the engine under a running service."""
    model_cache: str = "~/.cache/huggingface"
    """The host's folder of downloaded models, mounted into the container."""


class VllmEngine(EngineBase):
    """vLLM as a child process, one per replica (§B3)."""

    kind: Literal["vllm"]
    device: Literal["cpu", "cuda"]
    """`cuda` takes the box's cards, `cpu` is vLLM's build for processors."""
    model: str
    """A folder, a Hugging Face id, or `smollm2-135m-instruct` (prepared by this tool)."""
    launcher: Literal["process", "docker"] = "process"
    replicas: Count = 1
    """Independent engines; each takes `tensor_parallel_size` cards."""
    tensor_parallel_size: Count = 1
    """Cards per replica; must divide the model's attention heads."""
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    quantization: Literal["awq", "awq_marlin", "gptq", "fp8", "compressed-tensors"] | None = None
    """None lets vLLM read it from the model's own configuration."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    max_model_len: Count = 4096
    """Longest prompt and answer together, in tokens."""
    max_num_seqs: Count = 256
    """Sequences one engine decodes at a time."""
    max_queued_requests: Count = 64
    """Requests that may wait inside one engine; more are refused with 503."""
    gpu_memory_utilization: Fraction = 0.9
    """The share of a card's memory vLLM may take (device `cuda`)."""
    cpu_kv_cache_gib: Annotated[int, Field(ge=1)] = 1
    """Memory for the KV cache in GiB (device `cpu`)."""
    enforce_eager: bool = False
    """Skip graph capture: starts sooner, decodes slower on a card."""
    prefix_caching: bool = True
    shutdown_timeout_s: Annotated[int, Field(ge=0)] = 20
    """How long vLLM finishes running requests after SIGTERM."""
    extra_args: tuple[str, ...] = ()
    """Further arguments for vLLM, as they stand."""
    docker: DockerLaunch = DockerLaunch()


class EmulatedCard(Part):
    """How fast the emulated engine is: a stated roofline of a card and a model, or a calibration."""

    source: str
    """Where these figures come from; shown wherever they are used."""
    prefill_tokens_per_s: Positive
    """Prompt tokens processed per second."""
    decode_step_ms: Positive
    """One decoding step at batch 1: reading the weights once."""
    decode_step_ms_per_seq: Annotated[float, Field(ge=0)]
    """What each further sequence in the batch adds to a step."""
    decode_step_ms_per_kv_token: Annotated[float, Field(ge=0)] = 0.0
    """What each token held in the KV cache adds to a step."""
    kv_cache_tokens: Count
    """Tokens the KV cache holds."""


class EmulatedEngine(EngineBase):
    """An OpenAI-compatible server of ours that keeps vLLM's time without a GPU. Always `simulated`."""

    kind: Literal["emulated"]
    replicas: Count = 1
    max_model_len: Count = 4096
    max_num_seqs: Count = 256
    max_queued_requests: Count = 64
    shutdown_timeout_s: Annotated[int, Field(ge=0)] = 5
    seed: int = 0
    """The same seed gives the same text."""
    start_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """How long it pretends to load its model."""
    card: EmulatedCard


class RemoteEngine(EngineBase):
    """An engine that runs elsewhere: any OpenAI-compatible server (vLLM, TGI, SGLang, llama.cpp)."""

    kind: Literal["remote"]
    urls: Annotated[tuple[str, ...], Field(min_length=1)]
    """Base addresses without `/v1`, one per replica."""
    model: str
    """The model's name on that server."""
    api_key_env: str | None = None
    """The environment variable that holds its API key."""
    start_timeout_s: Positive = 30.0

    @model_validator(mode="after")
    def _urls_are_http(self) -> Self:
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"'{url}' is not an address: write http://HOST:PORT or https://HOST")
        if len(set(self.urls)) != len(self.urls):
            raise ValueError("urls names an engine twice")
        return self


Engine = Annotated[VllmEngine | EmulatedEngine | RemoteEngine, Field(discriminator="kind")]


class Generation(Part):
    """What a request gets that leaves a value unset (§B3), and the bounds of what it may ask."""

    default_max_tokens: Count = 200
    max_tokens_limit: Count = 2048
    """The most a single request may ask for."""
    default_top_p: Fraction = 0.9
    max_temperature: Positive = 2.0
    system_prompt: str | None = None
    """The system prompt of a request that brings none."""


class Gateway(Part):
    """The gRPC service of §D1."""

    host: str = "127.0.0.1"
    port: Port = 50051
    """0 takes a free one; `dreamseed status` says which."""
    max_message_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    """The largest gRPC message, either way."""
    default_timeout_s: Positive = 30.0
    """The deadline of a call that brings none (§D1: 30 s)."""
    drain_timeout_s: Positive = 20.0
    """How long running calls may finish at shutdown."""
    generation: Generation = Generation()


class Profile(Part):
    """One box and its services."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    box: Box = Box()
    engine: Engine
    gateway: Gateway = Gateway()

    @model_validator(mode="after")
    def _cards_suffice(self) -> Self:
        engine = self.engine
        if isinstance(engine, VllmEngine) and engine.device == "cuda":
            needed = engine.replicas * engine.tensor_parallel_size
            if needed > self.box.gpus:
                raise ValueError(
                    f"engine.replicas x engine.tensor_parallel_size is {needed} cards, "
                    f"box.gpus is {self.box.gpus}"
                )
        return self
