"""Judges a bucket with a client that knows nothing of FLK.

bucket.py make URL BUCKET [plain]   makes the bucket, with Object Lock unless it is to be plain
bucket.py judge URL BUCKET DAYS     every object is locked for about so long, was put once, and cannot be deleted
bucket.py take URL BUCKET PREFIX DIR  copies what is below the prefix into a directory
"""

import datetime
import pathlib
import sys

import boto3
from botocore.exceptions import ClientError


def versions(store, bucket):
    for page in store.get_paginator("list_object_versions").paginate(Bucket=bucket):
        assert not page.get("DeleteMarkers"), "something was deleted"
        yield from page.get("Versions", [])


def judge(store, bucket, days):
    wanted = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=float(days), minutes=-10)
    seen = set()
    for version in versions(store, bucket):
        key, name = version["Key"], version["VersionId"]
        assert key not in seen, f"{key} was put twice"
        seen.add(key)
        head = store.head_object(Bucket=bucket, Key=key, VersionId=name)
        assert head.get("ObjectLockMode") == "COMPLIANCE", f"{key}: {head}"
        assert head["ObjectLockRetainUntilDate"] >= wanted, f"{key}: {head}"
        for more in ({}, {"BypassGovernanceRetention": True}):
            try:
                store.delete_object(Bucket=bucket, Key=key, VersionId=name, **more)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "AccessDenied", error
            else:
                raise AssertionError(f"{key} could be deleted")
    assert seen, "there is nothing"
    print(f"OK objects={len(seen)}")


def main():
    act, url, bucket, rest = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    store = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret"
    )
    if act == "make":
        store.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=not rest)
    elif act == "judge":
        judge(store, bucket, rest[0])
    elif act == "take":
        for version in versions(store, bucket):
            if version["Key"].startswith(rest[0]):
                path = pathlib.Path(rest[1]) / version["Key"].removeprefix(rest[0])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(store.get_object(Bucket=bucket, Key=version["Key"])["Body"].read())
    else:
        sys.exit(__doc__)


main()
