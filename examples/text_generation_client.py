"""The part of five_clients.py that runs where TGI's own client is installed: one JSON text a line for each token.

Reads one JSON object from standard input: url, prompt, parameters, token, timeout (seconds).
"""

import json
import sys

from text_generation import Client


def main() -> None:
    """Stream one answer."""
    order = json.load(sys.stdin)
    headers = {"Authorization": f"Bearer {order['token']}"} if order["token"] else None
    client = Client(order["url"], headers=headers, timeout=order["timeout"])
    for response in client.generate_stream(order["prompt"], **order["parameters"]):
        if not response.token.special:
            print(json.dumps(response.token.text), flush=True)


if __name__ == "__main__":
    main()
