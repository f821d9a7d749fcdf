"""clients.py URL SECRET: behaves as the original system's Python clients behave, byte for byte where it matters.

Two of them: the agent (signs the canonical text, posts with requests' own JSON spacing, no tenant header, acknowledges
on 200 and 202) and the SDK (signs the digest of the text, retries through urllib3 on 429 and 5xx, reads every error
body as JSON). Nothing here comes from this repository's own code: canonical text and rounding are Python's.
"""

import base64
import decimal
import hashlib
import hmac
import json
import sys

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

SIGNED = ("pcs_id", "merkle_root", "epoch", "shard_id", "D_hat", "coh_star", "r", "budget")


def round9(value: float) -> float:
    """Half away from zero on the shortest decimal representation, as the agent rounds."""
    step = decimal.Decimal("0.000000001")
    return float(decimal.Decimal(repr(value)).quantize(step, rounding=decimal.ROUND_HALF_UP))


def canonical(pcs: dict) -> bytes:
    subset = {key: round9(pcs[key]) if isinstance(pcs[key], float) else pcs[key] for key in SIGNED}
    return json.dumps(subset, sort_keys=True, separators=(",", ":")).encode()


def summary(epoch: int, shard: str = "shard-001", d_hat: float = 1.0) -> dict:
    root = hashlib.sha256(b"%d" % epoch).hexdigest()
    return {
        "pcs_id": hashlib.sha256(f"{root}|{epoch}|{shard}".encode()).hexdigest(),
        "schema": "fractal-lba-kakeya", "version": "0.1", "shard_id": shard, "epoch": epoch, "attempt": 1,
        "sent_at": "2026-01-01T00:00:00.123456Z", "seed": 42, "scales": [2, 4, 8, 16],
        "N_j": {"2": 3, "4": 6, "8": 12, "16": 24}, "coh_star": 0.75, "v_star": [0.6, -0.8, 0.0], "D_hat": d_hat,
        "r": 0.5, "regime": "sticky", "budget": 0.4, "merkle_root": root, "sig": "",
        "ft": {"outbox_seq": 0, "degraded": False, "fallbacks": [], "clock_skew_ms": 0},
    }


def signed(pcs: dict, secret: bytes, digest: bool) -> dict:
    message = canonical(pcs)
    if digest:
        message = hashlib.sha256(message).digest()
    pcs["sig"] = base64.b64encode(hmac.new(secret, message, hashlib.sha256).digest()).decode()
    return pcs


def expect(what: str, seen, wanted) -> None:
    if seen != wanted:
        sys.exit(f"{what}: saw {seen!r}, expected {wanted!r}")


def agent(base: str, secret: bytes) -> None:
    url = base + "/v1/pcs/submit"
    for epoch in range(20):
        answer = requests.post(url, json=signed(summary(epoch), secret, digest=False), timeout=30)
        expect(f"agent, epoch {epoch}", answer.status_code, 200)
        body = answer.json()
        expect("accepted", (body["accepted"], body["escalated"]), (True, False))
        expect("the id comes back", body["pcs_id"], summary(epoch)["pcs_id"])
    retried = signed(summary(3), secret, digest=False)
    retried["attempt"] = 2
    retried["ft"]["outbox_seq"] = 77
    answer = requests.post(url, json=retried, timeout=30)
    expect("a retry from the outbox", (answer.status_code, answer.headers.get("Idempotent-Replayed")), (200, "true"))
    odd = signed(summary(100, shard="sch\u00f6n \u2028 <&> \U0001f600"), secret, digest=False)
    expect("a shard id beyond ASCII", requests.post(url, json=odd, timeout=30).status_code, 200)
    tiny = summary(101)
    tiny["r"] = 1e-07
    tiny["budget"] = round(0.1 + 0.3 * (1 - 1e-07) + 0.2 * 0.75, 9)
    expect("a tiny float", requests.post(url, json=signed(tiny, secret, digest=False), timeout=30).status_code, 200)
    far = requests.post(url, json=signed(summary(102, d_hat=1.5), secret, digest=False), timeout=30)
    expect("out of tolerance", (far.status_code, far.json()["accepted"]), (202, False))
    unsigned = requests.post(url, json=summary(103), timeout=30)
    expect("no signature goes to the dead letters", unsigned.status_code, 401)


def sdk(base: str, secret: bytes) -> None:
    session = requests.Session()
    retry = Retry(total=3, backoff_factor=0.1, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=["POST", "GET"])
    session.mount("http://", HTTPAdapter(max_retries=retry))
    headers = {"Content-Type": "application/json", "X-Tenant-Id": "default", "User-Agent": "fractal-lba-python-sdk/0.3.0",
               "X-PCS-Schema-Version": "0.1"}
    expect("health", session.get(base + "/health", timeout=5).status_code, 200)
    for epoch in range(200, 220):
        pcs = signed(summary(epoch), secret, digest=True)
        answer = session.post(base + "/v1/pcs/submit", data=json.dumps(pcs), headers=headers, timeout=30)
        expect(f"sdk, epoch {epoch}", (answer.status_code, answer.json()["accepted"]), (200, True))
    wrong = signed(summary(300), b"wrong", digest=True)
    answer = session.post(base + "/v1/pcs/submit", data=json.dumps(wrong), headers=headers, timeout=30)
    expect("a wrong key", answer.status_code, 401)
    expect("the error body is JSON with the original's words", answer.json()["error"], "Signature verification failed")
    answer = session.post(base + "/v1/pcs/submit", data="not json", headers=headers, timeout=30)
    expect("no JSON", (answer.status_code, answer.json()["error"]), (400, "Invalid JSON"))


def main() -> None:
    base, secret = sys.argv[1], sys.argv[2].encode()
    agent(base, secret)
    sdk(base, secret)
    print("agent and SDK: all as the original answered")


if __name__ == "__main__":
    main()
