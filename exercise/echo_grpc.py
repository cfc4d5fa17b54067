"""A gRPC server without a proto of its own: bytes in, bytes out, in every form of call, with the health service.

Usage: echo_grpc.py PORT.
"""

import concurrent.futures
import sys
import threading

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def chat(questions, context):
    mine = dict(context.invocation_metadata())["x-mine"].encode()
    context.set_trailing_metadata([("x-its-own", "2")])
    for question in questions:
        yield mine + b":" + question


def hangs(question, context):
    over = threading.Event()
    context.add_callback(over.set)
    print("hangs", flush=True)
    over.wait()
    print("cancelled", flush=True)
    return question


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(lambda question, _: question),
    "Count": grpc.unary_stream_rpc_method_handler(lambda question, _: (b"%d" % i for i in range(int(question)))),
    "Join": grpc.stream_unary_rpc_method_handler(lambda questions, _: b"".join(questions)),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Refuses": grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")),
    "Hangs": grpc.unary_unary_rpc_method_handler(hangs),
}

server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("example.Echo", METHODS)])
well = health.HealthServicer()
well.set("example.Echo", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(well, server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
