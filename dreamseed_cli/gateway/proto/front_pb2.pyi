from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class GetQuestionRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "content", "updated_at_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: bytes
    updated_at_us: int
    def __init__(self, id: _Optional[str] = ..., content: _Optional[bytes] = ..., updated_at_us: _Optional[int] = ...) -> None: ...

class TakeLeaseRequest(_message.Message):
    __slots__ = ("lease_id", "month", "holder", "amount_micro_usd", "cap_micro_usd")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    CAP_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    month: str
    holder: str
    amount_micro_usd: int
    cap_micro_usd: int
    def __init__(self, lease_id: _Optional[str] = ..., month: _Optional[str] = ..., holder: _Optional[str] = ..., amount_micro_usd: _Optional[int] = ..., cap_micro_usd: _Optional[int] = ...) -> None: ...

class SettleLeaseRequest(_message.Message):
    __slots__ = ("lease_id", "spent_micro_usd", "answers")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPENT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    spent_micro_usd: int
    answers: _containers.RepeatedCompositeFieldContainer[EndedRequest]
    def __init__(self, lease_id: _Optional[str] = ..., spent_micro_usd: _Optional[int] = ..., answers: _Optional[_Iterable[_Union[EndedRequest, _Mapping]]] = ...) -> None: ...

class RecordRefusalsRequest(_message.Message):
    __slots__ = ("refusals",)
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[EndedRequest]
    def __init__(self, refusals: _Optional[_Iterable[_Union[EndedRequest, _Mapping]]] = ...) -> None: ...

class RecordRefusalsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndedRequest(_message.Message):
    __slots__ = ("event_id", "request_id", "key_hash", "user_id", "outcome", "reason", "priority", "workload", "model", "prompt_tokens", "completion_tokens", "finish_reason", "arrived_at", "duration_s", "ttft_s", "count")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_HASH_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    TTFT_S_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    request_id: str
    key_hash: bytes
    user_id: str
    outcome: str
    reason: str
    priority: str
    workload: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    arrived_at: float
    duration_s: float
    ttft_s: float
    count: int
    def __init__(self, event_id: _Optional[str] = ..., request_id: _Optional[str] = ..., key_hash: _Optional[bytes] = ..., user_id: _Optional[str] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., priority: _Optional[str] = ..., workload: _Optional[str] = ..., model: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., finish_reason: _Optional[str] = ..., arrived_at: _Optional[float] = ..., duration_s: _Optional[float] = ..., ttft_s: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "month", "granted_micro_usd", "spent_micro_usd")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    GRANTED_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    SPENT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    month: str
    granted_micro_usd: int
    spent_micro_usd: int
    def __init__(self, lease_id: _Optional[str] = ..., month: _Optional[str] = ..., granted_micro_usd: _Optional[int] = ..., spent_micro_usd: _Optional[int] = ...) -> None: ...
