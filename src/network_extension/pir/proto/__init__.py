"""Messages on the wire and in files. Generated from the .proto files beside this one by scripts/protos.sh."""
