"""The profile's shape: frozen, strict, never holding a secret. A field's description is its reference."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.profile.backup import Backup
from dreamseed_cli.profile.deploy import Deploy
from dreamseed_cli.profile.drill import Drill
from dreamseed_cli.profile.part import Count, Fraction, Part, Port, Positive, check_addresses
from dreamseed_cli.profile.resilience import Failover, GpuCare, Supervision
from dreamseed_cli.profile.standby import Standby
from dreamseed_cli.profile.ups import Ups


class Box(Part):
    """The machine this profile is for (§B2)."""

    gpus: Annotated[int, Field(ge=0)] = 0
    """How many cards the stack may use; 0 on a machine without any."""
    gpu_model: str | None = None
    """The card, by its name in the table of cards (`rtx5090`)."""
    gpu_power_limit_w: Positive | None = None
    """What `nvidia-smi -pl` sets on every card; None: its board power. `plan` computes with it; a unit
    of `deploy render systemd` sets it."""
    cpu_power_w: Positive | None = None
    """The processor at full load."""
    other_power_w: Positive | None = None
    """Mainboard, memory, disks, fans and network together."""
    psu_w: Positive | None = None
    """The power supply's rating."""
    ups_w: Positive | None = None
    """The UPS's rating in watts (not VA)."""

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
    """Base addresses without `/v1`, one per replica; `http://` to loopback and Tailscale only."""
    model: str
    """The model's name on that server."""
    api_key_env: str | None = None
    """The environment variable that holds its API key."""
    start_timeout_s: Positive = 30.0

    @model_validator(mode="after")
    def _urls_are_http(self) -> Self:
        check_addresses(self.urls)
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


class Admission(Part):
    """The queue in front of the engines (§B4): PREMIUM, then STANDARD, then BATCH, with guaranteed shares."""

    max_queued_premium: Count = 512
    """Requests that may wait in this class; one more is refused at once."""
    max_queued_standard: Count = 512
    max_queued_batch: Count = 1024
    share_standard: Annotated[float, Field(ge=0, le=0.5)] = 0.10
    """The share of the engines' work that waiting STANDARD requests get however much PREMIUM arrives."""
    share_batch: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """The same for BATCH."""
    reserved_for_premium: Annotated[int, Field(ge=0)] = 4
    """Places kept free on every engine for the next PREMIUM requests, so that none waits for a place. Only
    a request that its class's share is due may take one."""
    prefill_ahead_tokens: Count = 64
    """While PREMIUM requests come: prompt tokens that may wait for their prefill on one engine before
    STANDARD and BATCH requests are held back. It is what a PREMIUM request may find before it."""
    prefill_ahead_quiet_tokens: Count = 256
    """The same while no PREMIUM requests come."""
    prefix_affinity: bool = True
    """Requests with the same beginning go to the same engine, whose KV cache holds it, while the engines'
    load stays even."""

    @model_validator(mode="after")
    def _premium_keeps_a_share(self) -> Self:
        if self.share_standard + self.share_batch > 0.9:
            raise ValueError("share_standard and share_batch leave PREMIUM less than a tenth: lower one")
        return self


class Cache(Part):
    """Complete answers kept in Redis (§I1)."""

    enabled: bool = True
    ttl_s: Count = 3600
    """How long an answer is kept."""


class Limits(Part):
    """What one user may use, by tier; None is unlimited."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    """Prompt and answer together."""


class Accounts(Part):
    """Who may ask for what (§B3 get_user_priority)."""

    unknown_user_tier: Literal["paid", "free", "background", "refuse"] = "free"
    """The tier of a user_id that a trusted caller names and nobody registered, or that cannot be looked up
    while PostgreSQL is away and was not seen before."""
    above_tier: Literal["clamp", "refuse"] = "clamp"
    """A priority above the user's tier: answered at the tier's own priority, or refused."""
    cache_s: Positive = 60.0
    """How long a looked-up account is believed."""
    stale_s: Positive = 86400.0
    """How long it is believed while PostgreSQL is away."""
    limits_paid: Limits = Limits()
    limits_free: Limits = Limits(requests_per_minute=60)
    limits_background: Limits = Limits()


class Tls(Part):
    """Certificates of the gateway, from files that are read again when they change."""

    certificate: str
    """The server's certificate chain (PEM)."""
    key: str
    """Its private key (PEM), readable by its owner only."""
    client_ca: str | None = None
    """A caller that shows a certificate of this authority is trusted; without it, bearer tokens only."""
    require_client_certificate: bool = False
    """Refuse the connection of a caller that shows none."""


class Security(Part):
    """Who gets in. Beyond loopback TLS is needed, and a token or a client certificate."""

    tls: Tls | None = None
    service_tokens_file: str | None = None
    """A file of tokens, one a line, whose bearers are trusted to name any user_id (the API front)."""
    require_authentication: bool | None = None
    """None: beyond loopback yes, on loopback no."""


class Gateway(Part):
    """The gRPC service of §D1."""

    host: str = "127.0.0.1"
    port: Port = 50051
    """0 takes a free one; `dreamseed status` says which."""
    metrics_port: Port | None = None
    """Prometheus metrics over HTTP on loopback; None: on the admin socket only."""
    max_message_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    """The largest gRPC message, either way."""
    default_timeout_s: Positive = 30.0
    """The deadline of a call that brings none (§D1: 30 s)."""
    drain_timeout_s: Positive = 20.0
    """How long running calls may finish at shutdown."""
    generation: Generation = Generation()
    admission: Admission = Admission()
    cache: Cache = Cache()
    accounts: Accounts = Accounts()
    security: Security = Security()


class Postgres(Part):
    """Accounts, request records, the outbox of events, questions (§E)."""

    mode: Literal["embedded", "external", "off"] = "embedded"
    """`embedded`: a private server on a Unix socket; `external`: yours; `off`: none of the above."""
    dsn_env: str = "DREAMSEED_DATABASE_URL"
    """The environment variable with the connection string (mode `external`)."""
    keep_requests_days: Annotated[int, Field(ge=0, le=36500)] = 90
    """How long the record of a request is kept, and in any case until its event has left; 0: for ever."""
    standby: Standby | None = None
    """A replica to turn to (mode `external`)."""

    @model_validator(mode="after")
    def _a_replica_follows_an_external_one(self) -> Self:
        if self.standby is not None and self.mode != "external":
            raise ValueError(
                "standby is set, and the embedded server listens on no network: set mode 'external'"
            )
        return self


class Redis(Part):
    """The answer cache (§A1: a cluster of three nodes)."""

    mode: Literal["embedded", "external", "off"] = "embedded"
    """`embedded`: three private Valkey nodes on loopback; `external`: your cluster; `off`: no cache."""
    nodes: tuple[str, ...] = ()
    """HOST:PORT of some nodes (mode `external`)."""
    password_env: str | None = None
    tls: bool = False

    @model_validator(mode="after")
    def _external_has_nodes(self) -> Self:
        if self.mode == "external" and not self.nodes:
            raise ValueError("mode is 'external' but nodes is empty: name HOST:PORT of the cluster")
        return self


class Kafka(Part):
    """Events (§A2). Nothing durable can be embedded for Kafka: the outbox in PostgreSQL is that form."""

    mode: Literal["embedded", "external", "off"] = "embedded"
    """`embedded`: events stay in the outbox, read them with `dreamseed events tail`; `external`: they are
    relayed to your brokers; `off`: requests are recorded, no events are kept."""
    brokers: tuple[str, ...] = ()
    """HOST:PORT of some brokers (mode `external`)."""
    topic: str = "dreamseed.requests"
    security_protocol: Literal["plaintext", "ssl", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the brokers check the password (`sasl_ssl`)."""
    username_env: str | None = None
    password_env: str | None = None
    ca_file: str | None = None
    """The authority of the brokers' certificates (PEM); None: those this system trusts."""

    @model_validator(mode="after")
    def _external_has_brokers(self) -> Self:
        if self.mode == "external" and not self.brokers:
            raise ValueError("mode is 'external' but brokers is empty: name HOST:PORT of the cluster")
        return self


class Services(Part):
    """What the gateway leans on; generation goes on without any of it."""

    postgres: Postgres = Postgres()
    redis: Redis = Redis()
    kafka: Kafka = Kafka()


class Targets(Part):
    """What the service promises: a request is good if it keeps both times."""

    ttft_ms: Positive = 1000.0
    """Time to first token at most, queueing included."""
    tpot_ms: Positive = 100.0
    """Time per output token after the first at most: 10 tokens a second are faster than people read."""
    attainment: Fraction = 0.99
    """The share of requests that must be good for a load to count as sustained."""


class Profile(Part):
    """One box and its services."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    box: Box = Box()
    engine: Engine
    gateway: Gateway = Gateway()
    services: Services = Services()
    supervision: Supervision = Supervision()
    gpu: GpuCare = GpuCare()
    failover: Failover = Failover()
    targets: Targets = Targets()
    backup: Backup = Backup()
    deploy: Deploy = Deploy()
    ups: Ups = Ups()
    drill: Drill = Drill()
    prices: dict[str, str] = Field(default_factory=dict)
    """Amounts of your own over the price book's, by the price's id: `electricity-flat = "0.15"`. `cost-sim`
    reads them."""
    costs: dict[str, float | str] = Field(default_factory=dict)
    """What `cost-sim` assumes of this service, by the name that its `--set` takes: `ai_share = 0.02`."""

    @property
    def card_engine(self) -> VllmEngine | None:
        """The engine, if it computes on cards of this box; an emulated one computes on the processor."""
        engine = self.engine
        return engine if isinstance(engine, VllmEngine) and engine.device == "cuda" else None

    @model_validator(mode="after")
    def _cards_suffice(self) -> Self:
        engine = self.card_engine
        if engine is not None:
            needed = engine.replicas * engine.tensor_parallel_size
            if needed > self.box.gpus:
                raise ValueError(
                    f"engine.replicas x engine.tensor_parallel_size is {needed} cards, "
                    f"box.gpus is {self.box.gpus}"
                )
        return self
