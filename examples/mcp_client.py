"""A client of ``fourcorners mcp``: starts the server on the documents beside this file and asks it.

Run it with ``python examples/mcp_client.py``; it needs ``pip install 'fourcorners[mcp]'``. In a desktop client the same
server is the command ``fourcorners`` with the arguments ``mcp`` and a folder.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

DOCUMENTS = Path(__file__).parent / "documents"


async def main() -> None:
    """List what the server offers, then ask."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "fourcorners", "mcp", str(DOCUMENTS)])
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        print("tools:", *(tool.name for tool in (await session.list_tools()).tools))
        print("documents:", *(Path(r.name).name for r in (await session.list_resources()).resources))
        for question in ("How much water does the tank hold?", "What is the password of the wireless network?"):
            result = await session.call_tool("ask", {"question": question})
            found = result.structuredContent or {}
            print(f"\n{question}\n{found['answer']}")
            for citation in found["citations"]:
                print(f"  {Path(citation['source']).name}:{citation['line']}")


if __name__ == "__main__":
    asyncio.run(main())
