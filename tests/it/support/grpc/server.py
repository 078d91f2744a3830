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


# What is said of services (grpc.health.v1): a number of ServingStatus, or the name of an error; "" is the server.
health = {"": "1", "house.Open": "1"}


def check(request, context):
    """grpc.health.v1.Health/Check, with its messages written by hand."""
    name = request[2:].decode()
    expected = bytes([0x0A, len(name)]) + name.encode() if name else b""
    status = health.get(name, "NOT_FOUND") if request == expected else "INVALID_ARGUMENT"
    if not status.isdigit():
        context.abort(grpc.StatusCode[status], "not well")
    # What is 0 is not written.
    return bytes([8, int(status)]) if status != "0" else b""


def become(request, context):
    """Sets what is said of a service: its name and the word, with a blank between them."""
    name, status = request.decode().split(" ")
    health[name] = status
    return b"so be it"


def main():
    methods = {
        "Greet": grpc.unary_unary_rpc_method_handler(greet),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
        "Watches": grpc.unary_unary_rpc_method_handler(watches),
        "Become": grpc.unary_unary_rpc_method_handler(become),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    handlers = [
        grpc.method_handlers_generic_handler(service, methods) for service in ("house.Open", "house.Staff")
    ]
    checks = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    handlers.append(grpc.method_handlers_generic_handler("grpc.health.v1.Health", checks))
    server.add_generic_rpc_handlers(handlers)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


main()
