"""A local server with TF Serving's REST API and a page to draw digits on, for computers without Docker.

python -m seqmnist_tf.serve [--model-dir DIR] [--version N] [--host 127.0.0.1] [--port 8501]
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from .. import system
from ..system import InputError, note, say
from .versions import DEFAULT_FOLDER, choose_version, exported_versions


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is lost before the server is ready
    parser = system.Parser(
        prog="python -m seqmnist_tf.serve",
        description="Serve an exported version of the model with TF Serving's REST API and a page to draw digits on.\n"
        "For use on one computer. TF Serving also has gRPC, batching across requests,\n"
        "loading of new versions while it runs, and metrics.",
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help=f"folder of the exported versions (default: {DEFAULT_FOLDER})",
    )
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="version to serve (default: the one that ../config/models.config calls stable, else the newest)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this computer only)"
    )
    parser.add_argument("--port", type=int, default=8501, help="port to listen on; 0: any free port (default: 8501)")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port must be 0 to 65535 (got {args.port})")
    version = choose_version(args.model_dir, args.version)
    with listen(args.host, args.port) as listener:
        system.start_tensorflow(0)
        from . import app, models  # late, so that --help and bad input do not wait for TensorFlow

        model = models.SavedModel.load(version)
        for signature, inputs in model.warm_up_requests():  # then the first request takes no longer than the others
            model(signature, **inputs)
        server = app.create_server(model, args.host)
        # After its shutdown uvicorn raises the signal again. To take TensorFlow down would take 1 to 2 s of a core.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(system.EXIT_DONE))
        if (newest := max(exported_versions(args.model_dir))) > int(version.name):
            note(f"version {newest} is newer: --version {newest} serves it")
        host, port = listener.getsockname()[:2]
        say(f"version {version.name} at http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])
    return system.EXIT_DONE


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket on a host's name or address, or InputError; port 0 is any free port."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error} (give another --host or --port)") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Nagle's algorithm delays each answer by 40 ms
    return listener


if __name__ == "__main__":
    system.run_command(main)
