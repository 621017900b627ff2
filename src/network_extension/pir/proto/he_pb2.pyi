from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorStdDev(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_STD_DEV_STDDEV32: _ClassVar[ErrorStdDev]

class SecurityLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SECURITY_LEVEL_UNSPECIFIED: _ClassVar[SecurityLevel]
    SECURITY_LEVEL_QUANTUM128: _ClassVar[SecurityLevel]

class HeScheme(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HE_SCHEME_UNSPECIFIED: _ClassVar[HeScheme]
    HE_SCHEME_BFV: _ClassVar[HeScheme]
ERROR_STD_DEV_STDDEV32: ErrorStdDev
SECURITY_LEVEL_UNSPECIFIED: SecurityLevel
SECURITY_LEVEL_QUANTUM128: SecurityLevel
HE_SCHEME_UNSPECIFIED: HeScheme
HE_SCHEME_BFV: HeScheme

class EncryptionParameters(_message.Message):
    __slots__ = ("polynomial_degree", "plaintext_modulus", "coefficient_moduli", "error_std_dev", "security_level", "he_scheme")
    POLYNOMIAL_DEGREE_FIELD_NUMBER: _ClassVar[int]
    PLAINTEXT_MODULUS_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_MODULI_FIELD_NUMBER: _ClassVar[int]
    ERROR_STD_DEV_FIELD_NUMBER: _ClassVar[int]
    SECURITY_LEVEL_FIELD_NUMBER: _ClassVar[int]
    HE_SCHEME_FIELD_NUMBER: _ClassVar[int]
    polynomial_degree: int
    plaintext_modulus: int
    coefficient_moduli: _containers.RepeatedScalarFieldContainer[int]
    error_std_dev: ErrorStdDev
    security_level: SecurityLevel
    he_scheme: HeScheme
    def __init__(self, polynomial_degree: _Optional[int] = ..., plaintext_modulus: _Optional[int] = ..., coefficient_moduli: _Optional[_Iterable[int]] = ..., error_std_dev: _Optional[_Union[ErrorStdDev, str]] = ..., security_level: _Optional[_Union[SecurityLevel, str]] = ..., he_scheme: _Optional[_Union[HeScheme, str]] = ...) -> None: ...

class EvaluationKeyConfig(_message.Message):
    __slots__ = ("encryption_parameters", "galois_elements", "has_relin_key")
    ENCRYPTION_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GALOIS_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    HAS_RELIN_KEY_FIELD_NUMBER: _ClassVar[int]
    encryption_parameters: EncryptionParameters
    galois_elements: _containers.RepeatedScalarFieldContainer[int]
    has_relin_key: bool
    def __init__(self, encryption_parameters: _Optional[_Union[EncryptionParameters, _Mapping]] = ..., galois_elements: _Optional[_Iterable[int]] = ..., has_relin_key: _Optional[bool] = ...) -> None: ...

class SerializedCiphertext(_message.Message):
    __slots__ = ("seeded", "full")
    SEEDED_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    seeded: SerializedSeededCiphertext
    full: SerializedFullCiphertext
    def __init__(self, seeded: _Optional[_Union[SerializedSeededCiphertext, _Mapping]] = ..., full: _Optional[_Union[SerializedFullCiphertext, _Mapping]] = ...) -> None: ...

class SerializedSeededCiphertext(_message.Message):
    __slots__ = ("poly0", "seed")
    POLY0_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    poly0: bytes
    seed: bytes
    def __init__(self, poly0: _Optional[bytes] = ..., seed: _Optional[bytes] = ...) -> None: ...

class SerializedFullCiphertext(_message.Message):
    __slots__ = ("polys", "skip_lsbs", "correction_factor")
    POLYS_FIELD_NUMBER: _ClassVar[int]
    SKIP_LSBS_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FACTOR_FIELD_NUMBER: _ClassVar[int]
    polys: bytes
    skip_lsbs: _containers.RepeatedScalarFieldContainer[int]
    correction_factor: int
    def __init__(self, polys: _Optional[bytes] = ..., skip_lsbs: _Optional[_Iterable[int]] = ..., correction_factor: _Optional[int] = ...) -> None: ...

class SerializedCiphertextVec(_message.Message):
    __slots__ = ("ciphertexts",)
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    ciphertexts: _containers.RepeatedCompositeFieldContainer[SerializedCiphertext]
    def __init__(self, ciphertexts: _Optional[_Iterable[_Union[SerializedCiphertext, _Mapping]]] = ...) -> None: ...

class SerializedKeySwitchKey(_message.Message):
    __slots__ = ("key_switch_key",)
    KEY_SWITCH_KEY_FIELD_NUMBER: _ClassVar[int]
    key_switch_key: SerializedCiphertextVec
    def __init__(self, key_switch_key: _Optional[_Union[SerializedCiphertextVec, _Mapping]] = ...) -> None: ...

class SerializedGaloisKey(_message.Message):
    __slots__ = ("key_switch_keys",)
    class KeySwitchKeysEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: SerializedKeySwitchKey
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[SerializedKeySwitchKey, _Mapping]] = ...) -> None: ...
    KEY_SWITCH_KEYS_FIELD_NUMBER: _ClassVar[int]
    key_switch_keys: _containers.MessageMap[int, SerializedKeySwitchKey]
    def __init__(self, key_switch_keys: _Optional[_Mapping[int, SerializedKeySwitchKey]] = ...) -> None: ...

class SerializedRelinKey(_message.Message):
    __slots__ = ("relin_key",)
    RELIN_KEY_FIELD_NUMBER: _ClassVar[int]
    relin_key: SerializedKeySwitchKey
    def __init__(self, relin_key: _Optional[_Union[SerializedKeySwitchKey, _Mapping]] = ...) -> None: ...

class SerializedEvaluationKey(_message.Message):
    __slots__ = ("galois_key", "relin_key")
    GALOIS_KEY_FIELD_NUMBER: _ClassVar[int]
    RELIN_KEY_FIELD_NUMBER: _ClassVar[int]
    galois_key: SerializedGaloisKey
    relin_key: SerializedRelinKey
    def __init__(self, galois_key: _Optional[_Union[SerializedGaloisKey, _Mapping]] = ..., relin_key: _Optional[_Union[SerializedRelinKey, _Mapping]] = ...) -> None: ...

class SerializedSecretKey(_message.Message):
    __slots__ = ("polys",)
    POLYS_FIELD_NUMBER: _ClassVar[int]
    polys: bytes
    def __init__(self, polys: _Optional[bytes] = ...) -> None: ...
