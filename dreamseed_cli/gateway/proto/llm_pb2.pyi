from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH: _ClassVar[Priority]
    STANDARD: _ClassVar[Priority]
    PREMIUM: _ClassVar[Priority]
BATCH: Priority
STANDARD: Priority
PREMIUM: Priority

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "user_id", "max_tokens", "temperature", "priority", "model", "system_prompt", "top_p", "seed", "stop", "request_id", "workload", "bypass_cache", "history", "raw", "ignore_eos")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    BYPASS_CACHE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    user_id: str
    max_tokens: int
    temperature: float
    priority: Priority
    model: str
    system_prompt: str
    top_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    workload: str
    bypass_cache: bool
    history: _containers.RepeatedCompositeFieldContainer[Turn]
    raw: bool
    ignore_eos: bool
    def __init__(self, prompt: _Optional[str] = ..., user_id: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., priority: _Optional[_Union[Priority, str]] = ..., model: _Optional[str] = ..., system_prompt: _Optional[str] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ..., workload: _Optional[str] = ..., bypass_cache: _Optional[bool] = ..., history: _Optional[_Iterable[_Union[Turn, _Mapping]]] = ..., raw: _Optional[bool] = ..., ignore_eos: _Optional[bool] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("text", "tokens_generated", "latency_ms", "finish_reason", "prompt_tokens", "time_to_first_token_ms", "replica", "cache_hit", "granted_priority")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_GENERATED_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    CACHE_HIT_FIELD_NUMBER: _ClassVar[int]
    GRANTED_PRIORITY_FIELD_NUMBER: _ClassVar[int]
    text: str
    tokens_generated: int
    latency_ms: float
    finish_reason: str
    prompt_tokens: int
    time_to_first_token_ms: float
    replica: str
    cache_hit: bool
    granted_priority: Priority
    def __init__(self, text: _Optional[str] = ..., tokens_generated: _Optional[int] = ..., latency_ms: _Optional[float] = ..., finish_reason: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., time_to_first_token_ms: _Optional[float] = ..., replica: _Optional[str] = ..., cache_hit: _Optional[bool] = ..., granted_priority: _Optional[_Union[Priority, str]] = ...) -> None: ...
