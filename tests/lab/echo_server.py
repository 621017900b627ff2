"""A TCP server of the test's own in `far`, which sends back what it gets, to any number of connections at once."""

from __future__ import annotations

import selectors
import socket
import threading

from tests.netlab import NetLab


class EchoServer:
    """Runs in a thread until `close`; a context manager."""

    def __init__(self, lab: NetLab, port: int = 0, family: int = socket.AF_INET) -> None:
        self._listener = lab.far_listener(port, family)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()[:2]
        self.accepted = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="echo server")
        self._thread.start()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._woken:
                    return
                if sock is self._listener:
                    self._accept()
                else:
                    self._echo(sock)

    def _accept(self) -> None:
        for _ in range(100):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._selector.register(connection, selectors.EVENT_READ)

    def _echo(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536, socket.MSG_DONTWAIT)
            if data:
                sock.sendall(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(sock)
        sock.close()

    def close(self) -> None:
        """Close every connection."""
        self._wake.close()
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            sock.close()
        self._selector.close()

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
