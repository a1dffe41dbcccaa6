"""A local server with TF Serving's REST API and a page to draw digits on, for computers without Docker.

python -m seqmnist_tf.serve [--model-dir DIR] [--version N] [--host 127.0.0.1] [--port 8501]
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from .. import system
from ..system import InputError, note, say
from .server import create_server, listen
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
    if not 0 <= args.port <= 65535:  # else the system takes the rest of it by 65,536
        raise InputError(f"--port must be 0 to 65535 (got {args.port})")
    number = choose_version(args.model_dir, args.version)
    with listen(args.host, args.port) as server_socket:
        system.start_tensorflow(0)
        from . import app, models  # late, so that --help and bad input do not wait for TensorFlow

        model = models.SavedModel.load(exported_versions(args.model_dir)[number])
        model.warm_up()
        server = create_server(app.create_app(model, args.host))
        # After its shutdown uvicorn raises the signal again. To take TensorFlow down would take 1 to 2 s of a core.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(system.EXIT_DONE))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a script's background ignores it
        if (newest := max(exported_versions(args.model_dir))) > number:
            note(f"version {newest} is newer: --version {newest} serves it")
        host, port = server_socket.getsockname()[:2]
        say(f"version {number} at http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[server_socket])
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
