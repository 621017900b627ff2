#!/bin/sh
# Makes the Python modules of src/network_extension/pir/proto/*.proto, which are committed: users need no protoc.
# Needs grpcio-tools in .venv. The modules demand at least the protobuf runtime that made them (pyproject.toml).
set -eu
cd "$(dirname "$0")/../src"
../.venv/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. network_extension/pir/proto/*.proto
