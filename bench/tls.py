"""A web server with TLS in `far`, and connections to it of which each makes a whole handshake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import trustme

from bench.network import FAR4, BenchLab, find_program

TLS_PORT = 8443
_NGINX = """daemon off; master_process off; pid {work}/tls.pid; error_log {work}/tls-error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {work}/tls-body; proxy_temp_path {work}/tls-proxy;
  fastcgi_temp_path {work}/tls-fastcgi; uwsgi_temp_path {work}/tls-uwsgi; scgi_temp_path {work}/tls-scgi;
  server {{
    listen {address}:{port} ssl backlog=4096; ssl_certificate {work}/tls.pem; ssl_certificate_key {work}/tls.key;
    ssl_session_tickets off; location / {{ return 200 "hello\\n"; }}
  }}
}}
"""


def start_tls_server(lab: BenchLab) -> None:
    """Start it, with an elliptic-curve certificate made for this run."""
    certificate = trustme.CA().issue_cert(FAR4, key_type=trustme.KeyType.ECDSA)
    folder: Path = lab.folder
    certificate.private_key_pem.write_to_path(str(folder / "tls.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "tls.pem"))
    config = folder / "tls.conf"
    config.write_text(_NGINX.format(work=folder, address=FAR4, port=TLS_PORT))
    words = (str(find_program("nginx")), "-p", str(folder), "-e", f"{folder}/tls-error.log", "-c", str(config))
    lab.far.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lab.wait_for_listener(lab.far, TLS_PORT)
