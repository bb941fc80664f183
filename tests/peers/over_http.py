"""A published server over HTTP: the object that it makes with the Python SDK, served as the SDK serves it.

    python over_http.py MODULE:NAME[(ARGUMENT)] http|sse

NAME is the server, or a function that makes it of one argument. Works with 1.x and 2.x of the SDK. Listens on any port
of 127.0.0.1 and says on stdout where: "listening on http://127.0.0.1:8000/".
"""

import importlib
import re
import socket
import sys
from pathlib import Path

import uvicorn


def server(which: str):
    module, name, argument = re.fullmatch(r"([\w.]+):(\w+)(?:\((.*)\))?", which).groups()
    found = getattr(importlib.import_module(module), name)
    if argument is None:
        return found
    return found(Path(argument) if argument.startswith("/") else argument)


def main(which: str, transport: str) -> None:
    made = server(which)
    app = made.sse_app() if transport == "sse" else made.streamable_http_app()
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


main(*sys.argv[1:])
