"""openapi.py URL: judges the OpenAPI document of a live server and then the server by its document.

openapi-spec-validator says whether the document is valid OpenAPI 3.1. schemathesis then makes requests from it, good
and bad, and compares every answer with what the document promises: no 5xx, only documented statuses, media types,
headers and bodies, and an honest Allow. Two of its checks are left out, because they cannot hold here: a body made
from a schema cannot be signed (positive_data_acceptance), and a verdict on a wrong summary is 202, not 4xx
(negative_data_rejection).
"""

import json
import os
import subprocess
import sys
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    # Of ndjson.py.
    "batch_lines",
]
MAX_EXAMPLES = os.environ.get("FLK_SCHEMATHESIS_EXAMPLES", "15")
SEED = "20261101"
TIME_LIMIT_S = 240


def main() -> int:
    base = sys.argv[1]
    with urllib.request.urlopen(base + "/openapi.json", timeout=10) as response:
        document = json.load(response)
    if not str(document.get("openapi", "")).startswith("3.1."):
        print("not an OpenAPI 3.1 document:", document.get("openapi"))
        return 1
    errors = [f"{list(error.absolute_path)}: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    if errors:
        print("the document is not valid OpenAPI 3.1:", *errors, sep="\n  ")
        return 1
    print(f"valid OpenAPI {document['openapi']}: {len(document['paths'])} paths")

    schemathesis = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    command = [
        schemathesis, "run", base + "/openapi.json",
        "--checks", ",".join(CHECKS),
        "--max-examples", MAX_EXAMPLES,
        "--seed", SEED,
        "--generation-database", "none",
        "--request-timeout", "10",
        "--suppress-health-check", "all",
        "--warnings", "off",
        "--no-color",
    ]
    work = os.path.join("target", "outsiders", "schemathesis")
    os.makedirs(work, exist_ok=True)
    hooks = {"SCHEMATHESIS_HOOKS": "ndjson", "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    finished = subprocess.run(
        command, cwd=work, timeout=TIME_LIMIT_S, capture_output=True, text=True, env={**os.environ, **hooks}
    )
    print(finished.stdout[-12000:], finished.stderr[-2000:])
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main())
