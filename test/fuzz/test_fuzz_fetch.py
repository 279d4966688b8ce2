"""A builder that answers anything: the robot refuses, writes nowhere else, and fetches from a good one afterwards."""

import hashlib

import pytest
from fuzz_support import examples
from hostile import edits, only_writes_in
from hypothesis import given
from hypothesis import strategies as st

from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import CancelledError, SegaError
from sega_ros.msg import AvatarInfo
from sega_ros.nodes.fetch import AvatarFetch
from sega_ros.nodes.sega_core import SegaDriver
from sega_ros.srv import GetAvatar


class Logger:
    def info(self, _):
        pass


class HostileBuilder:
    """Stands in for the client: the answers it gives are those of a machine that does as it likes."""

    service = '/get_avatar'

    def __init__(self, data, *, wrong, at):
        self.data, self.wrong, self.at, self.asked = data, wrong, at, 0

    def part(self, avatar_id, offset, length, stopped):
        self.asked += 1
        if stopped():
            raise CancelledError('the driver has something else to do')
        chunk, wrong = self.data[offset:offset + length], self.wrong if self.asked > self.at else ''
        chunk = {'short': chunk[:1], 'long': chunk + b'x', 'empty': b'', 'other': bytes(len(chunk))}.get(wrong, chunk)
        digest = '0' * 64 if wrong == 'digest' else hashlib.sha256(self.data).hexdigest()
        answer = GetAvatar.Response(success=wrong != 'refusal', message='\x1b[31m\n{}%s', sha256=digest,
                                    total_size=2**63 if wrong == 'size' else 1)
        answer.data.frombytes(chunk)
        return None if wrong == 'silence' else answer

    def store_id(self, stopped, *, wait=True):
        return ''


class Core(SegaDriver):
    """The real core without what drawing needs."""

    def __init__(self, directory, head):
        from sega_ros.avatar.copies import Copies

        self.store, self.head_model, self.head_model_version = AvatarStore(directory), head.name, head.version
        self._copies = Copies(self.store)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz_fetch')


@pytest.fixture(scope='module')
def file(place, whole_avatar):
    store = AvatarStore(place / 'there')
    store.save('ann', whole_avatar)
    return store.path('ann').read_bytes()


def fetch(place, head, builder, **changes):
    """Fetch as the driver does; return the robot's store."""
    core = Core(place / 'robot', head)
    node = type('Node', (), {'get_logger': lambda self: Logger()})()
    info = {'id': 'ann', 'head_model': head.name, 'head_model_version': head.version, 'size_bytes': len(builder.data),
            'sha256': hashlib.sha256(builder.data).hexdigest()}
    with only_writes_in(place / 'robot'):
        stopped = lambda: builder.asked > 300  # noqa: E731 (as when the node stops)
        AvatarFetch(node, core, builder)(AvatarInfo(**(info | changes)), stopped, limit=16)
    return core.store


@examples(10)
@given(wrong=st.sampled_from(['short', 'long', 'empty', 'other', 'refusal', 'digest', 'size', 'silence', 'file']),
       at=st.integers(0, 3), damage=edits(), size=st.sampled_from([None, 0, 1, 16_000_000, 16_000_001, 2**64 - 1]),
       avatar_id=st.sampled_from(['ann', 'ann', 'ann', '../ann', '', 'a' * 64, '.tmp-x']))
def test_hostile_answers(place, head, file, wrong, at, damage, size, avatar_id):
    data = damage(file) if wrong == 'file' else file
    builder = HostileBuilder(data, wrong=wrong, at=at)
    changes = {'id': avatar_id} | ({'size_bytes': size} if size is not None and wrong != 'silence' else {})
    try:
        store = fetch(place, head, builder, **changes)
        assert wrong in ('size', 'file') or builder.asked <= at, 'it was right until the end'
        assert store.load(avatar_id).head_model == head.name
    except SegaError as error:
        assert '\x1b' not in str(error) and '\n' not in str(error)
    left = sorted(p.name for p in (place / 'robot').iterdir() if p.name.startswith('.tmp-')) if (place / 'robot').exists() else []
    assert len(left) <= 3, 'parts pile up'
    for path in (place / 'robot').glob('*'):
        path.unlink()
    store = fetch(place, head, HostileBuilder(file, wrong='', at=0))
    assert store.path('ann').read_bytes() == file
    for path in (place / 'robot').iterdir():
        path.unlink()


@pytest.mark.parametrize(('wrong', 'words'), [('short', '1 came'), ('empty', '0 came'), ('long', 'came'), ('digest', 'changed'),
                                              ('refusal', r"\\x1b\[31m\\n")])
def test_what_is_not_the_part_that_was_asked_for_ends_the_fetch(place, head, file, wrong, words):
    """A byte at a time would take for ever; what the other machine says is quoted, so that no line of a log can be forged."""
    with pytest.raises(SegaError, match=words):
        fetch(place, head, HostileBuilder(file, wrong=wrong, at=0))
