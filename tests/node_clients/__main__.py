"""The SDKs of Node read what the gateway makes of vendors' replies: `make node-clients`."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from vendor_gateway import gateway_before
from vendor_replies import CALLS, DONE, END, RICH, ROLE, STOP, frame, said

CHECK = Path(__file__).with_name("check.mjs")


async def main(packages: Path) -> int:
    """`packages` is the folder in which npm has installed what `package.json` names."""
    rows: list[tuple[str, bytes, dict[str, object]]] = [
        ("everything", RICH, {
            "text": "Hi there.", "reasoning": "Hm.",
            "calls": [["a", "f", '{"x": 1}'], ["b", "f", '{"x": 1}']],
        }),
        ("thought", ROLE + said("<think>Hm.</think>Hi there.", 3) + END,
         {"text": "Hi there.", "reasoning": "Hm.", "calls": []}),
    ]  # fmt: skip
    for number, (deltas, calls) in enumerate(CALLS):
        if "custom" in str(deltas):
            continue  # no SDK joins the pieces of a custom tool
        body = ROLE + b"".join(map(frame, deltas)) + STOP + DONE
        rows.append((f"calls {number}", body, {"text": "", "reasoning": "", "calls": calls}))
    script = packages / CHECK.name
    script.write_bytes(CHECK.read_bytes())
    async with AsyncExitStack() as stack:
        asked = [
            {"name": name, "url": await stack.enter_async_context(gateway_before(body))} | wanted
            for name, body, wanted in rows
        ]
        check = await asyncio.create_subprocess_exec(
            "node", str(script), stdin=asyncio.subprocess.PIPE
        )
        await check.communicate(json.dumps(asked).encode())
    return check.returncode or 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
