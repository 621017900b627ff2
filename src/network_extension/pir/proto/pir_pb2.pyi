from network_extension.pir.proto import he_pb2 as _he_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PirAlgorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIR_ALGORITHM_ACLS_UNSPECIFIED: _ClassVar[PirAlgorithm]
    PIR_ALGORITHM_MUL_PIR: _ClassVar[PirAlgorithm]

class KeyCompressionStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_COMPRESSION_STRATEGY_UNSPECIFIED: _ClassVar[KeyCompressionStrategy]
    KEY_COMPRESSION_STRATEGY_NO_COMPRESSION: _ClassVar[KeyCompressionStrategy]
    KEY_COMPRESSION_STRATEGY_HYBRID_COMPRESSION: _ClassVar[KeyCompressionStrategy]
    KEY_COMPRESSION_STRATEGY_MAX_COMPRESSION: _ClassVar[KeyCompressionStrategy]
PIR_ALGORITHM_ACLS_UNSPECIFIED: PirAlgorithm
PIR_ALGORITHM_MUL_PIR: PirAlgorithm
KEY_COMPRESSION_STRATEGY_UNSPECIFIED: KeyCompressionStrategy
KEY_COMPRESSION_STRATEGY_NO_COMPRESSION: KeyCompressionStrategy
KEY_COMPRESSION_STRATEGY_HYBRID_COMPRESSION: KeyCompressionStrategy
KEY_COMPRESSION_STRATEGY_MAX_COMPRESSION: KeyCompressionStrategy

class PIRShardingFunctionSHA256(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PIRShardingFunctionDoubleMod(_message.Message):
    __slots__ = ("other_shard_count",)
    OTHER_SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    other_shard_count: int
    def __init__(self, other_shard_count: _Optional[int] = ...) -> None: ...

class PIRShardingFunction(_message.Message):
    __slots__ = ("sha256", "double_mod")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_MOD_FIELD_NUMBER: _ClassVar[int]
    sha256: PIRShardingFunctionSHA256
    double_mod: PIRShardingFunctionDoubleMod
    def __init__(self, sha256: _Optional[_Union[PIRShardingFunctionSHA256, _Mapping]] = ..., double_mod: _Optional[_Union[PIRShardingFunctionDoubleMod, _Mapping]] = ...) -> None: ...

class SymmetricPirClientConfig(_message.Message):
    __slots__ = ("server_public_key", "config_type")
    SERVER_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    CONFIG_TYPE_FIELD_NUMBER: _ClassVar[int]
    server_public_key: bytes
    config_type: int
    def __init__(self, server_public_key: _Optional[bytes] = ..., config_type: _Optional[int] = ...) -> None: ...

class KeywordPirParameters(_message.Message):
    __slots__ = ("num_hash_functions", "symmetric_pir_client_config", "sharding_function")
    NUM_HASH_FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    SYMMETRIC_PIR_CLIENT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SHARDING_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    num_hash_functions: int
    symmetric_pir_client_config: SymmetricPirClientConfig
    sharding_function: PIRShardingFunction
    def __init__(self, num_hash_functions: _Optional[int] = ..., symmetric_pir_client_config: _Optional[_Union[SymmetricPirClientConfig, _Mapping]] = ..., sharding_function: _Optional[_Union[PIRShardingFunction, _Mapping]] = ...) -> None: ...

class PirParameters(_message.Message):
    __slots__ = ("encryption_parameters", "num_entries", "entry_size", "dimensions", "keyword_pir_params", "algorithm", "batch_size", "evaluation_key_config", "key_compression_strategy", "encoding_entry_size")
    ENCRYPTION_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    NUM_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    ENTRY_SIZE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_PIR_PARAMS_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_KEY_CONFIG_FIELD_NUMBER: _ClassVar[int]
    KEY_COMPRESSION_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ENCODING_ENTRY_SIZE_FIELD_NUMBER: _ClassVar[int]
    encryption_parameters: _he_pb2.EncryptionParameters
    num_entries: int
    entry_size: int
    dimensions: _containers.RepeatedScalarFieldContainer[int]
    keyword_pir_params: KeywordPirParameters
    algorithm: PirAlgorithm
    batch_size: int
    evaluation_key_config: _he_pb2.EvaluationKeyConfig
    key_compression_strategy: KeyCompressionStrategy
    encoding_entry_size: bool
    def __init__(self, encryption_parameters: _Optional[_Union[_he_pb2.EncryptionParameters, _Mapping]] = ..., num_entries: _Optional[int] = ..., entry_size: _Optional[int] = ..., dimensions: _Optional[_Iterable[int]] = ..., keyword_pir_params: _Optional[_Union[KeywordPirParameters, _Mapping]] = ..., algorithm: _Optional[_Union[PirAlgorithm, str]] = ..., batch_size: _Optional[int] = ..., evaluation_key_config: _Optional[_Union[_he_pb2.EvaluationKeyConfig, _Mapping]] = ..., key_compression_strategy: _Optional[_Union[KeyCompressionStrategy, str]] = ..., encoding_entry_size: _Optional[bool] = ...) -> None: ...

class EncryptedIndices(_message.Message):
    __slots__ = ("ciphertexts", "num_pir_calls")
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    NUM_PIR_CALLS_FIELD_NUMBER: _ClassVar[int]
    ciphertexts: _containers.RepeatedCompositeFieldContainer[_he_pb2.SerializedCiphertext]
    num_pir_calls: int
    def __init__(self, ciphertexts: _Optional[_Iterable[_Union[_he_pb2.SerializedCiphertext, _Mapping]]] = ..., num_pir_calls: _Optional[int] = ...) -> None: ...

class StashOfEntries(_message.Message):
    __slots__ = ("hashed_keywords", "values", "removed_hashed_keywords")
    HASHED_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_HASHED_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    hashed_keywords: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    removed_hashed_keywords: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hashed_keywords: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[bytes]] = ..., removed_hashed_keywords: _Optional[_Iterable[int]] = ...) -> None: ...

class PIRResponse(_message.Message):
    __slots__ = ("replies", "stash")
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    STASH_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[_he_pb2.SerializedCiphertextVec]
    stash: StashOfEntries
    def __init__(self, replies: _Optional[_Iterable[_Union[_he_pb2.SerializedCiphertextVec, _Mapping]]] = ..., stash: _Optional[_Union[StashOfEntries, _Mapping]] = ...) -> None: ...
