"""Settings that both ends of a connection must agree on, and calls that may be repeated."""

from __future__ import annotations

import json

import pytest
from google.protobuf.descriptor import FileDescriptor

from ravan.rpc.addresses import target_of
from ravan.rpc.channel import REPEATABLE, service_config
from ravan.rpc.keepalive import CHANNEL_OPTIONS, SERVER_OPTIONS
from ravan.wire.v1 import enrolment_service_pb2, operator_service_pb2, site_service_pb2, transfer_service_pb2

FILES: tuple[FileDescriptor, ...] = (
    enrolment_service_pb2.DESCRIPTOR,
    operator_service_pb2.DESCRIPTOR,
    site_service_pb2.DESCRIPTOR,
    transfer_service_pb2.DESCRIPTOR,
)


def test_only_unary_calls_that_exist_are_repeated() -> None:
    unary = {
        service.full_name: {
            method.name for method in service.methods if not method.client_streaming and not method.server_streaming
        }
        for file in FILES
        for service in file.services_by_name.values()
    }
    assert set(REPEATABLE) == set(unary)
    for service, methods in REPEATABLE.items():
        assert set(methods) <= unary[service]


def test_an_operators_call_that_changes_something_is_repeated_only_with_an_id() -> None:
    names = {name["method"] for config in json.loads(service_config())["methodConfig"] for name in config["name"]}
    methods = operator_service_pb2.DESCRIPTOR.services_by_name["OperatorService"].methods
    changing = {method.name: method.input_type for method in methods if not method.name.startswith(("List", "Get"))}
    repeated = changing.keys() & names
    assert {name for name in repeated if "request_id" not in changing[name].fields_by_name} == set()
    assert {"CreateToken", "AddModel", "PauseJob"} <= repeated
    assert "Enrol" in names


def test_channels_ping_no_more_often_than_servers_allow() -> None:
    ping = dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"]
    assert ping > dict(SERVER_OPTIONS)["grpc.http2.min_recv_ping_interval_without_data_ms"]


@pytest.mark.parametrize(
    ("host", "target"), [("hq", "hq:1"), ("192.0.2.1", "192.0.2.1:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")]
)
def test_ipv6_addresses_get_brackets(host: str, target: str) -> None:
    assert target_of(host, 1) == target
