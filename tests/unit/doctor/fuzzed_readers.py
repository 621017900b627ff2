"""Every reader of the doctor over damaged real bytes and made-up ones: a way to say no, or an answer, and soon.

    python -m tests.unit.doctor.fuzzed_readers --inputs 100000

prints how many inputs there were, the slowest of them, and the most memory; anything but UnreadableFile ends it with a
traceback, and an input that takes longer than SLOWEST with an alarm.
"""

from __future__ import annotations

import argparse
import gzip
import json
import plistlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.bundles import find_bundles
from network_extension.doctor.certificates import read_certificate
from network_extension.doctor.cms import read_signed_data
from network_extension.doctor.code_check import check_code
from network_extension.doctor.code_directory import read_code_directory
from network_extension.doctor.code_resources import read_code_resources
from network_extension.doctor.code_signature import read_code_signature
from network_extension.doctor.der_entitlements import read_der_entitlements, read_xml_entitlements
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.examination import examine
from network_extension.doctor.examined_path import examined_path
from network_extension.doctor.imported_symbols import imported_symbols
from network_extension.doctor.log_lines import read_log
from network_extension.doctor.macho import read_macho
from network_extension.doctor.notarization_ticket import read_notarization_ticket, verify_notarization_ticket
from network_extension.doctor.profile_verification import verify_provisioning_profile
from network_extension.doctor.property_list import read_property_list, texts
from network_extension.doctor.provisioning_profile import read_provisioning_profile
from network_extension.doctor.requirement_evaluation import SignatureFacts, evaluate
from network_extension.doctor.requirements import read_requirement_set
from network_extension.doctor.source_files import read_entitlements_file
from tests.doctor_code_directory import SLOT_CMS, read_super_blob, slices

from .archives.archive_bytes import APP as ARCHIVED
from .archives.archive_bytes import component, cpio, pbzx, tar, xar, zipped
from .corpus import EXTENSION, app, executables

SLOWEST = 5.0
"""Seconds for one input."""
MOST_MEMORY = 512
"""MiB."""
NOW = datetime(2026, 11, 1, tzinfo=UTC)
VERSION = "0.3.0"
Reader = Callable[[bytes], object]
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _macho(data: bytes) -> None:
    for image in read_macho(data):
        imported_symbols(image)
        image.contains_class("Module.Class")
        if image.signature_data is not None:
            read_code_signature(image.signature_data)


def _code_directory(data: bytes) -> None:
    check_code(read_code_directory(data), data, len(data))


def _requirements(data: bytes) -> None:
    for requirement in read_requirement_set(data).values():
        str(requirement)
        evaluate(requirement, SignatureFacts())


def _profile(data: bytes) -> None:
    verify_provisioning_profile(read_provisioning_profile(data))


def _ticket(data: bytes) -> None:
    verify_notarization_ticket(read_notarization_ticket(data))


def _seal(data: bytes) -> None:
    read_code_resources(data).faults(_files(), "Contents", "Contents/MacOS/Mitmproxy Redirector")


@cache
def _files() -> BundleFiles:
    return BundleFiles(app(VERSION))


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzzed-"))


def _bundle(data: bytes) -> None:
    """A whole bundle, of which one byte says which part the rest is."""
    names = ("Info.plist", "MacOS/X", "_CodeSignature/CodeResources", "embedded.provisionprofile", "CodeResources")
    root = _folder() / "X.app" / "Contents" / "Library" / "SystemExtensions" / "X.systemextension" / "Contents"
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            source = app(VERSION) / EXTENSION / "Contents"
            real = next((source / "MacOS").iterdir()) if name == "MacOS/X" else source / name
            path.write_bytes(real.read_bytes() if real.exists() else b"")
    chosen = root / names[data[0] % len(names) if data else 0]
    before = chosen.read_bytes()
    chosen.write_bytes(data[1:])
    try:
        examine("fuzzed", BundleFiles(_folder()), NOW)
    finally:
        chosen.write_bytes(before)


def _archive(data: bytes) -> None:
    """Recognised by what it holds, as any file that a user names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed"
        path.write_bytes(data)
        with examined_path(path) as found:
            find_bundles(found.files)


READERS: dict[str, Reader] = {
    "archive": _archive,
    "bundle": _bundle,
    "certificate": read_certificate,
    "cms": read_signed_data,
    "code_directory": _code_directory,
    "code_resources": _seal,
    "code_signature": read_code_signature,
    "der_entitlements": read_der_entitlements,
    "entitlements_file": lambda data: read_entitlements_file(data, "X.entitlements"),
    "log": lambda data: list(read_log(data.decode("utf-8", "replace").splitlines())),
    "macho": _macho,
    "property_list": lambda data: list(texts(read_property_list(data))),
    "provisioning_profile": _profile,
    "requirements": _requirements,
    "ticket": _ticket,
    "xml_entitlements": read_xml_entitlements,
}
"""Each takes bytes, and raises UnreadableFile or nothing."""


@cache
def seeds() -> dict[str, list[bytes]]:
    """Real bytes for each reader."""
    contents = app(VERSION) / "Contents"
    code = executables(VERSION)[1].read_bytes()
    found = slices(code)[0]
    thin = code[found.offset : found.offset + found.size]
    start = found.signature_offset
    signature = thin[start : start + found.signature_size]
    blobs = read_super_blob(signature)
    information = (contents / "Info.plist").read_bytes()
    profile = (contents / "embedded.provisionprofile").read_bytes()
    signed = read_signed_data(blobs[SLOT_CMS][8:])
    small = [item for item in ARCHIVED if not item.name.endswith("Example")]
    return {
        "archive": [
            tar(small),
            tar(small, "w:gz"),
            zipped(small),
            xar(component(gzip.compress(cpio(small)))),
            xar(component(pbzx(cpio(small)))),
        ],
        "bundle": [b"\0" + information, b"\x02" + (contents / "_CodeSignature" / "CodeResources").read_bytes()],
        "certificate": [one.der for one in signed.certificates],
        "cms": [blobs[SLOT_CMS][8:], profile],
        "code_directory": [blobs[0]],
        "code_resources": [(contents / "_CodeSignature" / "CodeResources").read_bytes()],
        "code_signature": [signature],
        "der_entitlements": [blobs[7][8:]],
        "entitlements_file": [blobs[5][8:]],
        "log": [b"sysextd: no policy, cannot allow apps outside /Applications\n" * 3],
        "macho": [thin],
        "property_list": [information, plistlib.dumps(plistlib.loads(information), fmt=plistlib.FMT_BINARY)],
        "provisioning_profile": [profile],
        "requirements": [blobs[2]],
        "ticket": [(contents / "CodeResources").read_bytes()],
        "xml_entitlements": [blobs[5][8:]],
    }


def made_up(chance: random.Random, real: list[bytes]) -> bytes:
    """Damaged real bytes mostly, and sometimes bytes from nowhere."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(300))
    raw = bytearray(chance.choice(real))
    for _ in range(chance.randint(1, 4)):
        # Heads decide more than what follows them.
        at = chance.randrange(max(min(len(raw), 2048 if chance.random() < 0.5 else len(raw)), 1))
        size = chance.randrange(64)
        match chance.randrange(6):
            case 0 | 1 if raw:
                raw[at] ^= 1 << chance.randrange(8)
            case 2:
                number = chance.choice(NUMBERS) if chance.random() < 0.7 else chance.randrange(1 << 16)
                order: str = chance.choice(["little", "big"])
                raw[at : at + 4] = number.to_bytes(4, "little" if order == "little" else "big")
            case 3:
                del raw[at : at + size]
            case 4:
                raw[at:at] = raw[at : at + size]
            case 5:
                del raw[at:]
    return bytes(raw)


def run(inputs: int, seed: int) -> dict[str, object]:
    """`inputs` over all readers alike. Raises whatever a reader should not have raised."""
    chance = random.Random(seed)
    refused, slowest, slowest_reader = 0, 0.0, ""
    names = list(READERS)
    for number in range(inputs):
        name = names[number % len(names)]
        data = made_up(chance, seeds()[name])
        signal.setitimer(signal.ITIMER_REAL, SLOWEST)
        started = time.perf_counter()
        try:
            READERS[name](data)
        except UnreadableFile:
            refused += 1
        took = time.perf_counter() - started
        signal.setitimer(signal.ITIMER_REAL, 0)
        if took > slowest:
            slowest, slowest_reader = took, name
    # Not ru_maxrss, which counts what the process was before its exec as well: a copy of whoever started it.
    status = Path("/proc/self/status").read_text()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) // 1024
    return {
        "inputs": inputs,
        "refused": refused,
        "slowest_seconds": round(slowest, 3),
        "slowest_reader": slowest_reader,
        "memory_mib": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(run(options.inputs, options.seed)) + "\n")


if __name__ == "__main__":
    main()
