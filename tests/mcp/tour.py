"""What one client does: lists, calls, fails, watches, gives up, and calls again."""

import sys
import time

import anyio
from client import connect, plain, tell
from mcp.shared.exceptions import MCPError


async def main():
    async with connect(sys.argv[1:]) as client:
        facts = {"protocol": client.protocol_version, "server": client.server_info.name}
        tools, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        facts["tools"] = [tool.name for tool in tools]
        facts["schemas"] = {
            tool.name: [tool.input_schema, tool.output_schema] for tool in tools
        }

        async def call(name, **arguments):
            return plain(await client.call_tool(name, arguments))

        facts["answer"] = await call("calculator_divide", dividend=7, divisor=2)
        facts["guest_error"] = await call("calculator_divide", dividend=7, divisor=0)
        facts["wrong_type"] = await call("calculator_sum", values=[1, "two"])
        facts["nothing"] = await call("notebook_clear")
        try:
            await call("calculator_subtract")
        except MCPError as error:
            facts["unknown"] = error.code
        facts["out_of_memory"] = await call("leaky_leak-until-refused")
        facts["trap"] = await call("crasher_trap")
        facts["after_trap"] = await call("crasher_ping")

        words = []

        async def progress(at, total, message):
            words.append([at, total, message])

        parked = await client.call_tool(
            "spinner_park-ms", {"milliseconds": 500}, progress_callback=progress
        )
        facts["progress"] = words
        facts["parked"] = plain(parked)

        began = time.monotonic()
        # Once it is at work, and not while it waits.
        with anyio.CancelScope() as given_up:

            async def give_up(at, total, message):
                given_up.cancel()

            await client.call_tool("spinner_spin", {}, progress_callback=give_up)
        facts["given_up"] = given_up.cancelled_caught
        facts["after_giving_up"] = await call("spinner_ping")
        facts["seconds_until_then"] = time.monotonic() - began
        tell(facts)


anyio.run(main)
