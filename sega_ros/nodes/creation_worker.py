"""Process that makes avatars for the builder (see `creation`): it reads orders from a socket and ends with it.

`python -m sega_ros.nodes.creation_worker DESCRIPTOR --nice N`
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from queue import SimpleQueue

from sega_ros.nodes.creation import Made, Order, Ready, Report


def main(args: list[str] | None = None) -> int:
    """Carry out orders until the socket is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('descriptor', type=int)
    parser.add_argument('--nice', type=int, default=0)
    options = parser.parse_args(args)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the node, which then closes the socket
    os.nice(options.nice)
    channel = Connection(options.descriptor)
    orders: SimpleQueue[Order] = SimpleQueue()
    threading.Thread(target=_listen, args=(channel, orders), daemon=True).start()
    _load()
    with suppress(OSError):  # the other end was closed between two messages
        channel.send(Ready())
        while True:
            channel.send(_answer(orders.get(), channel))
    return 0


def _listen(channel: Connection, orders: 'SimpleQueue[Order]') -> None:
    """Take in orders; end the process, whatever it computes, when the other end is closed."""
    try:
        while True:
            orders.put(channel.recv())
    except (EOFError, OSError):
        os._exit(0)


def _answer(order: Order, channel: Connection) -> Made | Exception:
    try:
        return _made(order, channel)
    except ConnectionError:  # nobody wants it any more
        raise
    except Exception as error:
        error.add_note(''.join(traceback.format_exception(error)))  # a traceback itself can't be sent
        return error


def _load() -> None:
    """Import what a creation needs, before it is wanted."""
    import torch

    from sega_ros.avatar import create  # noqa: F401

    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '1')))


@cache
def _models(head: str):
    from sega_ros.head import load_head
    from sega_ros.tracking.embedding import landmark_embedding

    loaded = load_head(head)
    return loaded, landmark_embedding(loaded)


def _made(order: Order, channel: Connection) -> Made:
    from sega_ros.avatar.avatar import avatar_to_tensors
    from sega_ros.avatar.create import create_avatar
    from sega_ros.io.tensors import tensors_to_bytes

    head, embedding = _models(order.head)
    avatar = create_avatar(order.image, head=head, embedding=embedding, **order.options,
                           progress=lambda *report: channel.send(Report(*report)))
    return Made(tensors_to_bytes(*avatar_to_tensors(avatar)), tuple(avatar.warnings))


if __name__ == '__main__':
    sys.exit(main())
