"""Start a TGI server in a Docker container, wait until it answers, and stop it again.

    python examples/tgi_container.py start --model HuggingFaceH4/zephyr-7b-beta
    python examples/five_clients.py --url http://127.0.0.1:8080
    python examples/tgi_container.py stop

Needs Docker (docs.docker.com/get-docker) and its client for Python: pip install docker. HF_TOKEN, where it is set, is
handed to the container, for gated models. The settings are those of the TGI notebooks; TGI's launcher documents them
(huggingface.co/docs/text-generation-inference/reference/launcher). Exit status: 0 done, 1 it could not be.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

NAME = "fourcorners-tgi"
IMAGE = "ghcr.io/huggingface/text-generation-inference:3.3.6"
CONTAINER_PORT = 80
POLL_S = 2.0
STOP_S = 30


class Problem(Exception):
    """What the user is told, with what to do."""


def main() -> int:
    """Do as the command line says; the exit status."""
    given = _parser().parse_args()
    try:
        client = connect()
        print(start(client, given) if given.command == "start" else stop(client, given.name))
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start", help="start it, wait until it answers, print its address")
    starting.add_argument("--model", required=True, help="an id of the hub, or a folder under /data")
    starting.add_argument("--image", default=IMAGE)
    starting.add_argument("--port", type=int, default=8080, help="on this machine, reachable from it alone")
    starting.add_argument("--volume", type=Path, default=Path("tgi-data"), help="where the weights are kept")
    starting.add_argument("--shm-size", default="1g", help="shared memory, which several GPUs talk through")
    starting.add_argument("--gpus", choices=["all", "none"], default="all")
    starting.add_argument("--quantize", help="bitsandbytes-nf4, gptq, awq, eetq … as the launcher knows them")
    starting.add_argument("--max-input-length", type=int, default=3072, help="tokens of a prompt")
    starting.add_argument("--max-total-tokens", type=int, default=4096, help="tokens of prompt and answer")
    starting.add_argument("--max-batch-prefill-tokens", type=int, default=4096)
    starting.add_argument(
        "--wait", type=float, default=1800.0, metavar="S", help="until it has its weights and answers"
    )
    for command in (starting, commands.add_parser("stop", help="stop and remove it")):
        command.add_argument("--name", default=NAME, help="of the container")
    return parser


def connect() -> Any:
    """A client of the Docker daemon that answers. Raises Problem where package or daemon is missing."""
    try:
        import docker
    except ImportError:
        raise Problem("the Python package 'docker' is missing: pip install docker") from None
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        raise Problem(
            f"no Docker daemon answers ({error}). Install Docker Engine or Docker Desktop "
            "(docs.docker.com/get-docker) and start it; DOCKER_HOST names one elsewhere"
        ) from error
    return client


def start(client: Any, given: argparse.Namespace) -> str:
    """Start the container; its address once it answers. A container that fails is told of with its last words."""
    from docker.errors import APIError, ImageNotFound
    from docker.types import DeviceRequest

    command = [
        f"--model-id={given.model}",
        f"--max-input-length={given.max_input_length}",
        f"--max-total-tokens={given.max_total_tokens}",
        f"--max-batch-prefill-tokens={given.max_batch_prefill_tokens}",
        *([f"--quantize={given.quantize}"] if given.quantize else []),
    ]
    given.volume.mkdir(parents=True, exist_ok=True)
    token = os.environ.get("HF_TOKEN")
    try:
        container = client.containers.run(
            given.image,
            command,
            name=given.name,
            detach=True,
            ports={f"{CONTAINER_PORT}/tcp": ("127.0.0.1", given.port)},
            shm_size=given.shm_size,
            volumes={str(given.volume.resolve()): {"bind": "/data", "mode": "rw"}},
            environment={"HF_TOKEN": token} if token else {},
            device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if given.gpus == "all" else [],
        )
    except ImageNotFound as error:
        raise Problem(
            f"there is no image {given.image!r}: see github.com/huggingface/text-generation-inference"
        ) from error
    except APIError as error:
        taken = error.status_code == 409
        remedy = f"a container {given.name!r} is there: stop it first" if taken else "see --help for what can be set"
        raise Problem(f"Docker can't start it ({error.explanation or error}); {remedy}") from error
    return wait(container, f"http://127.0.0.1:{given.port}", given.wait)


def wait(container: Any, url: str, seconds: float) -> str:
    """The address, once ``/health`` answers. Raises Problem when the container ends or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        container.reload()
        if container.status in ("exited", "dead"):
            last = container.logs(tail=15).decode("utf-8", "replace").strip()
            container.remove()
            raise Problem(f"the server ended:\n{last}")
        try:
            if httpx.get(f"{url}/health", timeout=POLL_S).is_success:
                return url
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(POLL_S)
    raise Problem(f"it did not answer within {seconds:.0f} s, and goes on: docker logs {container.name}")


def stop(client: Any, name: str) -> str:
    """Stop and remove the container. The weights stay where they are."""
    from docker.errors import NotFound

    try:
        container = client.containers.get(name)
    except NotFound as error:
        raise Problem(f"there is no container {name!r}: docker ps shows those that run") from error
    container.stop(timeout=STOP_S)
    container.remove()
    return f"{name} stopped"


if __name__ == "__main__":
    sys.exit(main())
