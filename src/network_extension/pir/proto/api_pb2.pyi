import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from network_extension.pir.proto import he_pb2 as _he_pb2
from network_extension.pir.proto import pir_pb2 as _pir_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EvaluationKeyMetadata(_message.Message):
    __slots__ = ("timestamp", "identifier")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    identifier: bytes
    def __init__(self, timestamp: _Optional[int] = ..., identifier: _Optional[bytes] = ...) -> None: ...

class EvaluationKey(_message.Message):
    __slots__ = ("metadata", "evaluation_key")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_KEY_FIELD_NUMBER: _ClassVar[int]
    metadata: EvaluationKeyMetadata
    evaluation_key: _he_pb2.SerializedEvaluationKey
    def __init__(self, metadata: _Optional[_Union[EvaluationKeyMetadata, _Mapping]] = ..., evaluation_key: _Optional[_Union[_he_pb2.SerializedEvaluationKey, _Mapping]] = ...) -> None: ...

class EvaluationKeys(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[EvaluationKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[EvaluationKey, _Mapping]]] = ...) -> None: ...

class KeyStatus(_message.Message):
    __slots__ = ("timestamp", "key_config")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    KEY_CONFIG_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    key_config: _he_pb2.EvaluationKeyConfig
    def __init__(self, timestamp: _Optional[int] = ..., key_config: _Optional[_Union[_he_pb2.EvaluationKeyConfig, _Mapping]] = ...) -> None: ...

class PIRShardConfig(_message.Message):
    __slots__ = ("num_entries", "entry_size", "dimensions", "shard_id", "compress_vectorized_pir_response", "vectorized_pir_internal_batching_size")
    NUM_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    ENTRY_SIZE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    SHARD_ID_FIELD_NUMBER: _ClassVar[int]
    COMPRESS_VECTORIZED_PIR_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    VECTORIZED_PIR_INTERNAL_BATCHING_SIZE_FIELD_NUMBER: _ClassVar[int]
    num_entries: int
    entry_size: int
    dimensions: _containers.RepeatedScalarFieldContainer[int]
    shard_id: str
    compress_vectorized_pir_response: bool
    vectorized_pir_internal_batching_size: int
    def __init__(self, num_entries: _Optional[int] = ..., entry_size: _Optional[int] = ..., dimensions: _Optional[_Iterable[int]] = ..., shard_id: _Optional[str] = ..., compress_vectorized_pir_response: _Optional[bool] = ..., vectorized_pir_internal_batching_size: _Optional[int] = ...) -> None: ...

class PIRFixedShardConfig(_message.Message):
    __slots__ = ("shard_config", "shard_count")
    SHARD_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    shard_config: PIRShardConfig
    shard_count: int
    def __init__(self, shard_config: _Optional[_Union[PIRShardConfig, _Mapping]] = ..., shard_count: _Optional[int] = ...) -> None: ...

class PIRShardConfigs(_message.Message):
    __slots__ = ("repeated_shard_config",)
    REPEATED_SHARD_CONFIG_FIELD_NUMBER: _ClassVar[int]
    repeated_shard_config: PIRFixedShardConfig
    def __init__(self, repeated_shard_config: _Optional[_Union[PIRFixedShardConfig, _Mapping]] = ...) -> None: ...

class PIRConfig(_message.Message):
    __slots__ = ("encryption_parameters", "shard_configs", "keyword_pir_params", "algorithm", "batch_size", "evaluation_key_config_hash", "pir_shard_configs", "encoding_entry_size", "custom_config")
    ENCRYPTION_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SHARD_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_PIR_PARAMS_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_KEY_CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    PIR_SHARD_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_ENTRY_SIZE_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CONFIG_FIELD_NUMBER: _ClassVar[int]
    encryption_parameters: _he_pb2.EncryptionParameters
    shard_configs: _containers.RepeatedCompositeFieldContainer[PIRShardConfig]
    keyword_pir_params: _pir_pb2.KeywordPirParameters
    algorithm: _pir_pb2.PirAlgorithm
    batch_size: int
    evaluation_key_config_hash: bytes
    pir_shard_configs: PIRShardConfigs
    encoding_entry_size: bool
    custom_config: _any_pb2.Any
    def __init__(self, encryption_parameters: _Optional[_Union[_he_pb2.EncryptionParameters, _Mapping]] = ..., shard_configs: _Optional[_Iterable[_Union[PIRShardConfig, _Mapping]]] = ..., keyword_pir_params: _Optional[_Union[_pir_pb2.KeywordPirParameters, _Mapping]] = ..., algorithm: _Optional[_Union[_pir_pb2.PirAlgorithm, str]] = ..., batch_size: _Optional[int] = ..., evaluation_key_config_hash: _Optional[bytes] = ..., pir_shard_configs: _Optional[_Union[PIRShardConfigs, _Mapping]] = ..., encoding_entry_size: _Optional[bool] = ..., custom_config: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...

class Config(_message.Message):
    __slots__ = ("pir_config", "config_id", "reuse_existing_config")
    PIR_CONFIG_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ID_FIELD_NUMBER: _ClassVar[int]
    REUSE_EXISTING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    pir_config: PIRConfig
    config_id: bytes
    reuse_existing_config: bool
    def __init__(self, pir_config: _Optional[_Union[PIRConfig, _Mapping]] = ..., config_id: _Optional[bytes] = ..., reuse_existing_config: _Optional[bool] = ...) -> None: ...

class ConfigRequest(_message.Message):
    __slots__ = ("usecases", "existing_config_ids")
    USECASES_FIELD_NUMBER: _ClassVar[int]
    EXISTING_CONFIG_IDS_FIELD_NUMBER: _ClassVar[int]
    usecases: _containers.RepeatedScalarFieldContainer[str]
    existing_config_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, usecases: _Optional[_Iterable[str]] = ..., existing_config_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ConfigResponse(_message.Message):
    __slots__ = ("configs", "key_info")
    class ConfigsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Config
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Config, _Mapping]] = ...) -> None: ...
    CONFIGS_FIELD_NUMBER: _ClassVar[int]
    KEY_INFO_FIELD_NUMBER: _ClassVar[int]
    configs: _containers.MessageMap[str, Config]
    key_info: _containers.RepeatedCompositeFieldContainer[KeyStatus]
    def __init__(self, configs: _Optional[_Mapping[str, Config]] = ..., key_info: _Optional[_Iterable[_Union[KeyStatus, _Mapping]]] = ...) -> None: ...

class PIRRequest(_message.Message):
    __slots__ = ("shard_index", "query", "evaluation_key_metadata", "configuration_hash", "shard_id", "evaluation_key")
    SHARD_INDEX_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_KEY_METADATA_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_HASH_FIELD_NUMBER: _ClassVar[int]
    SHARD_ID_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_KEY_FIELD_NUMBER: _ClassVar[int]
    shard_index: int
    query: _pir_pb2.EncryptedIndices
    evaluation_key_metadata: EvaluationKeyMetadata
    configuration_hash: bytes
    shard_id: str
    evaluation_key: EvaluationKey
    def __init__(self, shard_index: _Optional[int] = ..., query: _Optional[_Union[_pir_pb2.EncryptedIndices, _Mapping]] = ..., evaluation_key_metadata: _Optional[_Union[EvaluationKeyMetadata, _Mapping]] = ..., configuration_hash: _Optional[bytes] = ..., shard_id: _Optional[str] = ..., evaluation_key: _Optional[_Union[EvaluationKey, _Mapping]] = ...) -> None: ...

class OPRFRequest(_message.Message):
    __slots__ = ("query_element", "config_id")
    QUERY_ELEMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ID_FIELD_NUMBER: _ClassVar[int]
    query_element: bytes
    config_id: bytes
    def __init__(self, query_element: _Optional[bytes] = ..., config_id: _Optional[bytes] = ...) -> None: ...

class OPRFResponse(_message.Message):
    __slots__ = ("evaluated_element", "proof")
    EVALUATED_ELEMENT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    evaluated_element: bytes
    proof: bytes
    def __init__(self, evaluated_element: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("usecase", "pir_request", "oprf_request")
    USECASE_FIELD_NUMBER: _ClassVar[int]
    PIR_REQUEST_FIELD_NUMBER: _ClassVar[int]
    OPRF_REQUEST_FIELD_NUMBER: _ClassVar[int]
    usecase: str
    pir_request: PIRRequest
    oprf_request: OPRFRequest
    def __init__(self, usecase: _Optional[str] = ..., pir_request: _Optional[_Union[PIRRequest, _Mapping]] = ..., oprf_request: _Optional[_Union[OPRFRequest, _Mapping]] = ...) -> None: ...

class Requests(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    def __init__(self, requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("pir_response", "oprf_response")
    PIR_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    OPRF_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    pir_response: _pir_pb2.PIRResponse
    oprf_response: OPRFResponse
    def __init__(self, pir_response: _Optional[_Union[_pir_pb2.PIRResponse, _Mapping]] = ..., oprf_response: _Optional[_Union[OPRFResponse, _Mapping]] = ...) -> None: ...

class Responses(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[Response]
    def __init__(self, responses: _Optional[_Iterable[_Union[Response, _Mapping]]] = ...) -> None: ...

class ErrorConfigVersionNotFound(_message.Message):
    __slots__ = ("config_response",)
    CONFIG_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    config_response: ConfigResponse
    def __init__(self, config_response: _Optional[_Union[ConfigResponse, _Mapping]] = ...) -> None: ...

class ErrorEvaluationKeyNotFound(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ErrorInvalidRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ErrorInternal(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Error(_message.Message):
    __slots__ = ("config_version_not_found", "evaluation_key_not_found", "invalid_request", "internal_error")
    CONFIG_VERSION_NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_KEY_NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    INVALID_REQUEST_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_ERROR_FIELD_NUMBER: _ClassVar[int]
    config_version_not_found: ErrorConfigVersionNotFound
    evaluation_key_not_found: ErrorEvaluationKeyNotFound
    invalid_request: ErrorInvalidRequest
    internal_error: ErrorInternal
    def __init__(self, config_version_not_found: _Optional[_Union[ErrorConfigVersionNotFound, _Mapping]] = ..., evaluation_key_not_found: _Optional[_Union[ErrorEvaluationKeyNotFound, _Mapping]] = ..., invalid_request: _Optional[_Union[ErrorInvalidRequest, _Mapping]] = ..., internal_error: _Optional[_Union[ErrorInternal, _Mapping]] = ...) -> None: ...

class URLFilterReport(_message.Message):
    __slots__ = ("urls",)
    URLS_FIELD_NUMBER: _ClassVar[int]
    urls: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, urls: _Optional[_Iterable[str]] = ...) -> None: ...

class URLFilterReportWithMetadata(_message.Message):
    __slots__ = ("user_agent", "received_at", "report")
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    user_agent: str
    received_at: _timestamp_pb2.Timestamp
    report: URLFilterReport
    def __init__(self, user_agent: _Optional[str] = ..., received_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., report: _Optional[_Union[URLFilterReport, _Mapping]] = ...) -> None: ...
