"""Which requests of browsers are answered, and where they are listened for."""

import socket

import pytest

from sega_ros.nodes.web_guard import WebError, listen, own_names, refusal

NAMES = own_names('robot', 'Head.Example, ')


@pytest.mark.parametrize('host', ['127.0.0.1:8088', '10.0.0.7', '[::1]:8088', 'localhost:8088', 'LOCALHOST', 'robot',
                                  f'{socket.gethostname()}:1', f'{socket.gethostname()}.local', 'head.example:80'])
def test_own_addresses_are_answered_and_own_pages_open_streams(host):
    assert refusal(host, None, NAMES) == '' == refusal(host, f'http://{host}', NAMES) == refusal(host, f'https://{host}', NAMES)


@pytest.mark.parametrize('host', ['evil.example', 'evil.example:8088', 'localhost.evil.example', '', '[::1',
                                  '127.0.0.1.evil.example'])
def test_foreign_names_are_not(host):
    assert 'host_names' in refusal(host, None, NAMES)


@pytest.mark.parametrize('origin', ['http://evil.example', 'null', '', 'http://127.0.0.1:8089', 'http://127.0.0.1',
                                    'http://localhost:8088', 'http://127.0.0.1:8088.evil.example'])
def test_foreign_pages_do_not_open_streams(origin):
    assert 'origin' in refusal('127.0.0.1:8088', origin, NAMES)


def test_a_port_that_is_taken():
    with listen('127.0.0.1', 0) as taken, pytest.raises(WebError, match=r'port \d+ of 127.0.0.1 is taken.*0 for a free one'):
        listen('127.0.0.1', taken.getsockname()[1])


@pytest.mark.parametrize('host', ['203.0.113.7', 'no.such.invalid', 'x' * 80])
def test_an_address_that_is_not_this_machines(host):
    with pytest.raises(WebError, match='host is an address of this machine'):
        listen(host, 0)
