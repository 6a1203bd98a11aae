"""A thousand calls at once by one client, a part of which ends the instance they are in."""

import json
import sys

import anyio
from client import connect, plain, tell

CALLS = 1000
HOSTILE = [
    ("crasher_trap", {}),
    ("crasher_panic", {"message": "no"}),
    ("leaky_leak-until-refused", {}),
    ("crasher_out-of-bounds", {}),
]


async def main():
    right = wrong = lost = 0
    kinds = {}

    async with connect(sys.argv[1:]) as client:
        await client.list_tools()

        async def well_behaved(number):
            nonlocal right, wrong
            arguments = {"values": [number, -2 * number, 5]}
            told = plain(await client.call_tool("calculator_sum", arguments))
            if told["structured"] == {"result": 5 - number}:
                right += 1
            else:
                wrong += 1

        async def hostile(number):
            nonlocal lost
            name, arguments = HOSTILE[number % len(HOSTILE)]
            told = plain(await client.call_tool(name, arguments))
            if not told["error"]:
                lost += 1
                return
            kind = json.loads(told["texts"][0])["error"]["kind"]
            kinds[kind] = kinds.get(kind, 0) + 1

        with anyio.fail_after(90):
            async with anyio.create_task_group() as group:
                for number in range(CALLS):
                    one = hostile if number % 5 == 0 else well_behaved
                    group.start_soon(one, number)
        tell({"right": right, "wrong": wrong, "lost": lost, "kinds": kinds})


anyio.run(main)
