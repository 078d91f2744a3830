"""A service of gRPC that says what it was told. Prints its port, and ends with its standard input."""

import sys
import threading
from concurrent import futures

import grpc

open_watches = 0
lock = threading.Lock()


def told(context, name):
    return [value for key, value in context.invocation_metadata() if key == name]


def greet(request, context):
    """One message, one answer; and a word behind it."""
    context.set_trailing_metadata((("said-by", "the service"),))
    user = ",".join(told(context, "x-forwarded-user"))
    return request + b" " + user.encode()


def count(request, context):
    """One message, many answers."""
    for number in range(int(request)):
        yield str(number).encode()


def chat(requests, context):
    """As many answers as messages, each in its turn."""
    for request in requests:
        yield b"heard " + request


def watch(request, context):
    """An answer, and then nothing for ever."""
    global open_watches
    over = threading.Event()
    with lock:
        open_watches += 1
    if not context.add_callback(over.set):
        over.set()
    yield b"watching"
    over.wait()
    with lock:
        open_watches -= 1


def watches(request, context):
    """How many watches are open."""
    with lock:
        return str(open_watches).encode()


def main():
    methods = {
        "Greet": grpc.unary_unary_rpc_method_handler(greet),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
        "Watches": grpc.unary_unary_rpc_method_handler(watches),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    handlers = [
        grpc.method_handlers_generic_handler(service, methods) for service in ("house.Open", "house.Staff")
    ]
    server.add_generic_rpc_handlers(handlers)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


main()
