#!/usr/bin/env python3
"""Turns a USGS ComCat CSV export into earthquakes-2011.csv.

    python3 tools/data/convert.py query.csv > tools/data/earthquakes-2011.csv

Keeps the events the USGS itself authored (net = us) of type earthquake that have all five values, drops the
columns nothing here reads, writes times as RFC 3339 and sorts by time, then by the USGS event id. Numbers are
copied as the export wrote them.
"""
import csv
import re
import sys

KEPT = ("latitude", "longitude", "depth", "mag")
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d\.\d{3})Z?")


def main(path: str) -> None:
    rows, dropped = {}, 0
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            time = TIME.fullmatch(row["time"])
            if row["net"] != "us" or row["type"] != "earthquake" or not time or not all(row[k] for k in KEPT):
                dropped += 1
                continue
            rows[row["id"]] = ("{}T{}Z".format(*time.groups()), row["id"], [row[k] for k in KEPT])
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("time", *KEPT))
    for time, _, values in sorted(rows.values()):
        out.writerow((time, *values))
    print(f"{len(rows)} events kept, {dropped} dropped", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
