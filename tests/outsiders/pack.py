"""pack.py check PACK VKEYFILE [SAVED]: an evidence pack judged by Python's standard library and the openssl program.
pack.py redraw SAMPLE.json POPULATION.csv: a sample drawn again from the words in it.

Written from C2SP's tlog-tiles, tlog-checkpoint and signed-note and RFC 6962 alone; nothing comes from this repository's
code. Only packs of a whole log are read. Exit status: 0 all of it holds, 2 something does not: "FAIL place: why".
"""

import base64
import csv
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

WIDTH = 256


def refuse(place: str, why: str) -> None:
    print(f"FAIL {place}: {why}")
    sys.exit(2)


def number_path(number: int) -> str:
    path = f"{number % 1000:03d}"
    while number >= 1000:
        number //= 1000
        path = f"x{number % 1000:03d}/{path}"
    return path


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(root(leaves[:split]), root(leaves[split:]))


def checkpoint(path: pathlib.Path, vkey: str) -> tuple[str, int, bytes]:
    try:
        text, signatures = path.read_text().split("\n\n", 1)
        origin, size, head = text.split("\n")
        line = signatures.split("\n")[0]
        dash, name, encoded = line.split(" ")
        raw = base64.b64decode(encoded, validate=True)
        key_name, key_id, key = vkey.strip().split("\n")[0].split("+", 2)
        key = base64.b64decode(key, validate=True)
        head = base64.b64decode(head, validate=True)
    except (ValueError, OSError) as error:
        refuse(str(path), f"malformed: {error}")
    if dash != "\u2014" or name != origin or key_name != origin or raw[:4].hex() != key_id or key[0] != 1:
        refuse(str(path), "not signed by the key that was given")
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        (folder / "key").write_bytes(bytes.fromhex("302a300506032b6570032100") + key[1:])
        (folder / "text").write_text(text + "\n")
        (folder / "signature").write_bytes(raw[4:])
        done = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", folder / "key", "-rawin",
             "-in", folder / "text", "-sigfile", folder / "signature"],
            capture_output=True, check=False)
    if done.returncode != 0:
        refuse(str(path), "openssl: " + (done.stdout + done.stderr).decode(errors="replace").strip())
    return origin, int(size), head


def entries(pack: pathlib.Path, size: int) -> list[bytes]:
    found = []
    for index in range((size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, size - index * WIDTH)
        name = "tile/entries/" + number_path(index) + ("" if width == WIDTH else f".p/{width}")
        try:
            data = (pack / name).read_bytes()
        except OSError as error:
            refuse(name, str(error))
        at = 0
        for nth in range(width):
            length = int.from_bytes(data[at:at + 2], "big")
            if at + 2 + length > len(data):
                refuse(f"{name} entry {index * WIDTH + nth}", "the bundle ends in it")
            found.append(data[at + 2:at + 2 + length])
            at += 2 + length
        if at != len(data):
            refuse(name, "bytes after the last entry")
    return found


def tiles(pack: pathlib.Path, leaves: list[bytes]) -> None:
    level, row = 0, leaves
    while row:
        for index in range((len(row) + WIDTH - 1) // WIDTH):
            part = row[index * WIDTH:(index + 1) * WIDTH]
            name = f"tile/{level}/" + number_path(index) + ("" if len(part) == WIDTH else f".p/{len(part)}")
            try:
                have = (pack / name).read_bytes()
            except OSError as error:
                refuse(name, str(error))
            if have != b"".join(part):
                refuse(name, "not what the entries give")
        whole = len(row) // WIDTH
        row = [root(row[index * WIDTH:(index + 1) * WIDTH]) for index in range(whole)]
        level += 1


def times(found: list[bytes]) -> None:
    before = 0
    for number, entry in enumerate(found):
        time = json.loads(entry)["time"]
        if time < before:
            refuse(f"entry {number}", "its time is before that of the entry before it")
        before = time


def sums(pack: pathlib.Path) -> None:
    if not (pack / "SHA256SUMS").is_file():
        refuse("SHA256SUMS", "missing")
    for line in (pack / "SHA256SUMS").read_text().splitlines():
        want, name = line.split("  ", 1)
        if hashlib.sha256((pack / name).read_bytes()).hexdigest() != want:
            refuse(name, "not as SHA256SUMS says")


def check(pack: pathlib.Path, vkey: str, saved: pathlib.Path | None) -> None:
    origin, size, head = checkpoint(pack / "checkpoint", vkey)
    sums(pack)
    found = entries(pack, size)
    leaves = [leaf_hash(entry) for entry in found]
    if root(leaves) != head:
        refuse("checkpoint", "the entries give another root")
    tiles(pack, leaves)
    times(found)
    if saved is not None:
        old_origin, old_size, old_head = checkpoint(saved, vkey)
        if old_origin != origin or old_size > size or root(leaves[:old_size]) != old_head:
            refuse("append-only", "the saved checkpoint is not continued")
    print(f"OK {origin} {size} entries")


def redraw(sample: pathlib.Path, population: pathlib.Path) -> None:
    said = json.loads(sample.read_text())
    with population.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != said["count"]:
        refuse("population", f"{len(rows)} rows, {said['count']} said")
    drawn, k = [], 0
    while len(drawn) < len(said["positions"]):
        text = f"flk sample 1\n{said['root_base64']}\n{said['seed']}\n{k}".encode()
        position = int.from_bytes(hashlib.sha256(text).digest(), "big") % len(rows)
        if position not in drawn:
            drawn.append(position)
        k += 1
    if drawn != said["positions"] or [int(rows[position]["seq"]) for position in drawn] != said["entries"]:
        refuse("sample", "another sample follows from these words")
    print(f"OK {len(drawn)} of {len(rows)}")


def main() -> None:
    words = sys.argv[1:]
    if len(words) >= 3 and words[0] == "check":
        saved = pathlib.Path(words[3]) if len(words) > 3 else None
        check(pathlib.Path(words[1]), pathlib.Path(words[2]).read_text(), saved)
    elif len(words) == 3 and words[0] == "redraw":
        redraw(pathlib.Path(words[1]), pathlib.Path(words[2]))
    else:
        sys.exit("usage: pack.py check PACK VKEYFILE [SAVED] | redraw SAMPLE.json POPULATION.csv")


if __name__ == "__main__":
    main()
