"""Waits to be told that the list of tools is another, and reads it again."""

import sys

import anyio
import mcp_types as types
from client import connect, tell


async def main():
    changed = anyio.Event()

    async def received(message):
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    async with connect(sys.argv[1:], message_handler=received) as client:

        async def names():
            return [tool.name for tool in (await client.list_tools()).tools]

        before = await names()
        if sys.argv[1] == "legacy":
            tell("ready")
            with anyio.fail_after(30):
                await changed.wait()
        else:
            async with client.listen(tools_list_changed=True) as changes:
                tell("ready")
                with anyio.fail_after(30):
                    await anext(aiter(changes))
        after = await names()
        tell([sorted(set(after) - set(before)), sorted(set(before) - set(after))])


anyio.run(main)
