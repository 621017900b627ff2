from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeywordDatabaseRow(_message.Message):
    __slots__ = ("keyword", "value")
    KEYWORD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    keyword: bytes
    value: bytes
    def __init__(self, keyword: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class KeywordDatabase(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[KeywordDatabaseRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[KeywordDatabaseRow, _Mapping]]] = ...) -> None: ...
