"""An AWS program as users write it with boto3, told line by line what to do.

  call    one signed API call by the client that lives as long as this process
  new     one signed API call by a new session
  region  the region as the SDK finds it on the metadata service

Each line is answered with one line: the ARN that the service reported, the
region, or "error: ...". The only argument is the API's address.
"""

import sys

import boto3
import botocore.session
import botocore.utils


def sts():
    session = boto3.session.Session()
    return session.client("sts", region_name="eu-central-1", endpoint_url=sys.argv[1])


def region():
    return botocore.utils.IMDSRegionProvider(botocore.session.Session()).provide()


def main():
    living = None
    for line in sys.stdin:
        try:
            match line.strip():
                case "call":
                    living = living or sts()
                    answer = living.get_caller_identity()["Arn"]
                case "new":
                    answer = sts().get_caller_identity()["Arn"]
                case "region":
                    answer = region()
                case other:
                    answer = f"error: unknown command {other!r}"
        except Exception as e:  # whatever an SDK raises is an answer here
            answer = f"error: {type(e).__name__}: {e}"
        print(answer, flush=True)


main()
