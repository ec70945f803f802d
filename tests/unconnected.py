"""Run our commands where every connection to elsewhere fails, and say which were tried.

The first argument is a file for the names of hosts, the second a JSON list of commands, each a list
of a command's name and its arguments. Ends with the first exit code that is not 0.
"""

from __future__ import annotations

import importlib
import json
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

_LOCAL = ("localhost", "127.0.0.1", "::1", "", None)


def main(tried: Path, commands: list[list[str]]) -> int:
    """Run the commands, one after the other."""
    asked: Any = socket.getaddrinfo
    connect: Any = socket.socket.connect
    connect_ex: Any = socket.socket.connect_ex

    def refuse(host: object) -> NoReturn:
        with tried.open("a") as file:
            file.write(f"{host}\n")
        raise OSError(101, "Network is unreachable")

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        return asked(host, *args, **kwargs) if host in _LOCAL else refuse(host)

    def guarded(call: Any) -> Any:
        def connected(self: socket.socket, address: Any) -> Any:
            if isinstance(address, tuple) and address[0] not in _LOCAL:
                refuse(address[0])
            return call(self, address)

        return connected

    socket.getaddrinfo = look_up
    for name, call in (("connect", connect), ("connect_ex", connect_ex)):
        setattr(socket.socket, name, guarded(call))
    for name, *arguments in commands:
        module = importlib.import_module(f"dots_mergekit.cli.{name}")
        if code := module.main(arguments):
            return int(code)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
