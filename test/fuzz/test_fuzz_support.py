"""What the fuzz tests rely on does see what it is there for."""

import pytest
from hostile import check_error, only_writes_in, places, refused, replaced

from sega_ros.errors import ImageError, ModelError


@pytest.mark.parametrize('write', [
    lambda p: p.write_text('x'), lambda p: p.mkdir(), lambda p: p.open('ab').close(), lambda p: p.with_name('there').rename(p),
    lambda p: p.with_name('there').unlink(), lambda p: p.symlink_to('/')])
def test_a_write_elsewhere_is_seen(tmp_path, write):
    (tmp_path / 'inside').mkdir()
    (tmp_path / 'there').write_text('x')
    with pytest.raises(AssertionError, match=tmp_path.name), only_writes_in(tmp_path / 'inside'):
        write(tmp_path / 'outside')
    with only_writes_in(tmp_path / 'inside'):
        (tmp_path / 'inside' / 'file').write_text((tmp_path / 'inside').name)


def test_refusals_without_code_or_remedy_are_seen():
    def fail(error):
        raise error

    assert refused(fail, ImageError('found nothing, wanted a picture'))[0] is None
    for error in (ImageError('bad'), ModelError('wanted a code of its own')):
        with pytest.raises(AssertionError):
            check_error(error)
    with pytest.raises(KeyError):
        refused(fail, KeyError('not one of ours'))


def test_every_value_of_a_tree_can_be_replaced():
    tree = {'a': [1, {'b': 2}], 'c': 3}
    assert list(places(tree)) == [(), ('a',), ('a', 0), ('a', 1), ('a', 1, 'b'), ('c',)]
    assert replaced(tree, ('a', 1, 'b'), 'x') == {'a': [1, {'b': 'x'}], 'c': 3} and tree['a'][1] == {'b': 2}
