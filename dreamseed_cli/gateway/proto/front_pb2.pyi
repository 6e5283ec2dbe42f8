from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

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
    __slots__ = ("lease_id", "spent_micro_usd")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPENT_MICRO_USD_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    spent_micro_usd: int
    def __init__(self, lease_id: _Optional[str] = ..., spent_micro_usd: _Optional[int] = ...) -> None: ...

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
