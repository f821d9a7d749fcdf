"""What schemathesis does not know by itself: how to write a batch, and what its answer promises.

Loaded by openapi.py through SCHEMATHESIS_HOOKS. A batch is made of lines, good JSON and bad, blank ones and line ends of
both kinds; an answered batch has exactly one JSON verdict a line that was not blank.
"""

import json

import schemathesis
from hypothesis import strategies as st

MEDIA = "application/x-ndjson"
ANSWERS = [200, 202, 400, 401, 413, 422, 500, 503]

lines = st.one_of(
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none(), max_size=4).map(json.dumps),
    st.sampled_from(["", "   ", "{", "[]", "null", "NaN", '{"a":1,"A":2}', '{"pcs_id":"00"}']),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20),
)
batches = st.lists(lines, max_size=12).flatmap(
    lambda some: st.sampled_from(["\n", "\r\n"]).map(lambda end: end.join(some).encode())
)
schemathesis.openapi.media_type(MEDIA, batches)


@schemathesis.serializer(MEDIA)
def write(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def batch_lines(context, response, case):
    if case.path != "/v1/pcs/batch" or response.status_code != 200:
        return
    sent = case.body if isinstance(case.body, bytes) else str(case.body).encode()
    # ASCII white space around a line does not count, as for every reader of NDJSON.
    wanted = [line for line in sent.split(b"\n") if line.strip(b" \t\r\x0c")]
    verdicts = [json.loads(line) for line in response.content.splitlines()]
    assert len(verdicts) == len(wanted), f"{len(verdicts)} verdicts for {len(wanted)} lines"
    for verdict in verdicts:
        assert verdict["status"] in ANSWERS, verdict
        assert ("answer" in verdict) != ("problem" in verdict), verdict
