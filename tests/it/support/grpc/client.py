"""A client of gRPC: ADDRESS SERVICE METHOD NAME=VALUE…, with messages line by line on the standard input.

Prints every message, then how the call ended: `= STATUS`, and the trailing metadata that the service set.
"""

import sys

import grpc

address, service, method, *metadata = sys.argv[1:]


def messages():
    for line in sys.stdin:
        yield line.rstrip("\n").encode()


def said(answers):
    for answer in answers:
        print(answer.decode(), flush=True)


def main():
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)])
    path = f"/{service}/{method}"
    arguments = {"metadata": [tuple(pair.split("=", 1)) for pair in metadata], "timeout": 30}
    try:
        if method in ("Greet", "Watches"):
            answer, call = channel.unary_unary(path).with_call(next(messages()), **arguments)
            said([answer])
        elif method in ("Count", "Watch"):
            call = channel.unary_stream(path)(next(messages()), **arguments)
            said(call)
        else:
            call = channel.stream_stream(path)(messages(), **arguments)
            said(call)
        ended = [call.code().name, *dict(call.trailing_metadata()).values()]
    except grpc.RpcError as error:
        ended = [error.code().name, error.details()]
    print("=", *ended, flush=True)


main()
