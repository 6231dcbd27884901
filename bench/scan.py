"""What the scan costs: `bench/scan.py DATA.jsonl [FOLDER...]`.

Makes messages of 4 KB and 100 KB from the rows' texts (shuffled) and from the messages in the folders, all different,
and scans each once with an engine that has just been loaded, as in a worker: CPU time a message. That is done several
times, each time with a new engine, and a message's best time counts: a busy machine makes everything look slow. The
yardstick, a fixed piece of interpreter work timed beside each message, tells how slow it was. Load time and memory.
"""

import argparse
import email
import json
import random
import resource
import sys
import time
from pathlib import Path

from relay.app.pages import use_huge_pages
from relay.extract.engine import ScanEngine, load_judge

HEAD = (
    "Received: from a.example by b.example; Sun, 22 Nov 2026 04:00:00 +0000\r\nFrom: EHR <ehr@clinic.example>\r\n"
    "To: pat@mail.example\r\nSubject: Message {n}\r\nMessage-ID: <{n}@x.example>\r\n"
    "Date: Sun, 22 Nov 2026 04:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)


def messages(text: str, size: int, limit: int) -> list[bytes]:
    room = size - len(HEAD)
    pieces = [text[start : start + room] for start in range(0, len(text) - room, room)][:limit]
    return [(HEAD.format(n=number) + piece).encode() for number, piece in enumerate(pieces)]


def rows(path: Path) -> str:
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    random.Random(7).shuffle(texts)
    return "\r\n\r\n".join(text.replace("\r", "").replace("\n", "\r\n") for text in texts)


def bodies(folder: Path) -> str:
    found = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        message = email.message_from_bytes(path.read_bytes())
        payload = message.get_payload(decode=True) if not message.is_multipart() else None
        if isinstance(payload, bytes):
            found.append(payload.decode("utf-8", "replace"))
    return "\r\n\r\n".join(found)


def yardstick() -> int:
    """Nanoseconds of CPU for 2,000 additions."""
    started, total = time.process_time_ns(), 0
    for number in range(2_000):
        total += number
    return time.process_time_ns() - started


def cost(batch: list[bytes], repeat: int) -> tuple[float, float]:
    """Microseconds a message, the mean of each one's best; and of the yardstick beside it, the same."""
    best = [float("inf")] * len(batch)
    yard = [float("inf")] * len(batch)
    for _ in range(repeat):
        engine = ScanEngine(load_judge(lambda plain: plain))
        use_huge_pages()  # as a worker does once it has loaded all
        for number, content in enumerate(batch):
            started = time.process_time_ns()
            engine.scan(content)
            best[number] = min(best[number], time.process_time_ns() - started)
            yard[number] = min(yard[number], yardstick())
    return sum(best) / len(best) / 1000, sum(yard) / len(yard) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    started = time.perf_counter()
    load_judge(lambda plain: plain)
    print(f"load {time.perf_counter() - started:.2f} s")
    sources = {options.data.name: rows(options.data), **{folder.name: bodies(folder) for folder in options.folders}}
    for name, text in sources.items():
        for size, limit in ((4096, 2000), (100_000, 40)):
            batch = messages(text, size, limit)
            if not batch:
                continue
            spent, yard = cost(batch, options.repeat)
            print(f"{name}: {len(batch)} different messages of {size} octets: {spent:.0f} us (yardstick {yard:.0f} us)")
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB", file=sys.stdout)


if __name__ == "__main__":
    main()
