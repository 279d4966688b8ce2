import numpy as np
import pytest

from sega_ros.errors import HeadModelError
from sega_ros.head import load_head
from sega_ros.head.flame import export_flame, flame_to_head, read_obj_uvs
from sega_ros.head.skinning import Poser
from sega_ros.raster import shade
from sega_ros.types import FlameParams, Region


@pytest.fixture(scope='module')
def arrays(head):
    """FLAME's arrays with the open head's geometry; the real FLAME may not be distributed."""
    dirs = np.zeros((len(head.v_template), 3, 400), np.float32)
    dirs[:, :, :head.n_shape], dirs[:, :, 300:300 + head.n_expression] = head.shapedirs, head.exprdirs
    return {
        'v_template': head.v_template.astype(np.float64), 'f': head.faces.astype(np.uint32), 'shapedirs': dirs,
        'posedirs': head.posedirs, 'J_regressor': head.J_regressor, 'weights': head.weights,
        'kintree_table': np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        'n_shape': np.array(head.n_shape), 'n_expression': np.array(head.n_expression),
    }


@pytest.fixture(scope='module')
def flame(arrays):
    return flame_to_head(arrays, name='flame2023', version='test')


def test_arrays_are_carried_over(head, flame):
    assert (flame.n_shape, flame.n_expression) == (80, 39) and flame.parents.tolist() == [-1, 0, 1, 1, 1]
    for name in ('v_template', 'shapedirs', 'exprdirs', 'posedirs', 'J_regressor', 'weights', 'faces'):
        np.testing.assert_array_equal(getattr(flame, name), getattr(head, name), err_msg=name)
    assert flame.expression_names[:2] == ('expression00', 'expression01')
    np.testing.assert_array_equal(flame.expression_bounds[0], [-3, 3])


def test_without_counts_all_columns_are_used(arrays):
    all_columns = {k: v for k, v in arrays.items() if not k.startswith('n_')}
    full = flame_to_head(all_columns, name='flame', version='test', uv=(np.zeros((3, 2)), np.zeros_like(arrays['f'])))
    assert (full.n_shape, full.n_expression) == (300, 100)


def test_its_own_lids_close_the_eyes(flame):
    poser = Poser(flame, np.zeros(0))
    centre = (flame.J_regressor @ flame.v_template)[3]
    seen = []
    for closure in (0, 0.5, 1):
        vertices = poser.pose(FlameParams(np.zeros(0), np.zeros(0), eyelids=np.full(2, closure, np.float32)))
        buffer = shade(vertices, flame.faces, size=(300, 300), center=centre, extent=0.04)[1]
        seen.append(int((flame.face_region[buffer.face[buffer.face >= 0]] == Region.EYES).sum()))
    assert seen[0] > 2000 and 0.1 < seen[1] / seen[0] < 0.8 and seen[2] < 0.02 * seen[0]


def test_regions_by_geometry_agree_with_the_painted_ones(head, flame):
    # Teeth and lids are the difference: FLAME has no teeth, and its lids are those that move.
    comparable = ~np.isin(head.face_region, [Region.TEETH, Region.EYELIDS]) & (flame.face_region != Region.EYELIDS)
    assert (flame.face_region == head.face_region)[comparable].mean() > 0.97


def test_generated_layout_has_no_overlap(flame):
    from sega_ros.head.atlas import build_atlas

    a, b, c = (flame.uvs[flame.uv_faces[:, k]].astype(np.float64) * 1024 for k in range(3))
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (area < 0).all() and flame.uvs.min() >= 0 and flame.uvs.max() <= 1
    assert build_atlas(flame, 1024).valid.sum() == pytest.approx(-area.sum(), rel=5e-3)  # border texels


def test_flame_npz_is_completed_once(arrays, flame, tmp_path, monkeypatch):
    monkeypatch.setattr('sega_ros.head.flame.cache_folder', lambda: tmp_path / 'cache')
    monkeypatch.setattr('sega_ros.head.flame_parts.layout_charts', lambda charts: (flame.uvs, flame.uv_faces))
    path = tmp_path / 'FLAME2023_open.npz'
    np.savez(path, **arrays)
    first = load_head(path)
    assert first.name == 'flame2023open' and len(list((tmp_path / 'cache').iterdir())) == 1
    np.testing.assert_allclose(first.eyelid_dirs, flame.eyelid_dirs, atol=1e-6)
    monkeypatch.setattr('sega_ros.head.flame.flame_to_head', lambda *a, **k: pytest.fail('not from the cache'))
    assert load_head(path).fingerprint == first.fingerprint


def test_template_obj_gives_the_texture_coordinates(tmp_path):
    path = tmp_path / 'template.obj'
    path.write_text('v 0 0 0\nvt 0.25 1.0\nvt 0.5 0.75\nvt 0 0\nf 1/1 1/2 1/3\n')
    uvs, faces = read_obj_uvs(path)
    np.testing.assert_allclose(uvs, [[0.25, 0], [0.5, 0.25], [0, 1]])
    np.testing.assert_array_equal(faces, [[0, 1, 2]])


@pytest.mark.parametrize(('text', 'message'), [
    ('v 0 0 0\nf 1 1 1\n', 'could not be read'),
    ('vt 0 0\nf 1/1 1/2 1/3\n', 'wanted triangles with texture coordinates'),
    ('vt 0 0\nf 1/1 1/1 1/1 1/1\n', 'wanted triangles with texture coordinates'),
])
def test_unusable_objs_are_refused(tmp_path, text, message):
    path = tmp_path / 'template.obj'
    path.write_text(text)
    with pytest.raises(HeadModelError, match=message):
        read_obj_uvs(path)


def test_files_that_are_not_flame_say_why(arrays, tmp_path):
    def refused(message, **changes):
        with pytest.raises(HeadModelError, match=message):
            flame_to_head({k: v for k, v in {**arrays, **changes}.items() if v is not None}, name='flame', version='1')

    refused(r"lacks \['posedirs'\]", posedirs=None)
    refused(r'shapedirs: wanted \[\d+, 3, 400\], found \[\d+, 3, 100\]', shapedirs=arrays['shapedirs'][:, :, :100])
    refused('not finite', v_template=arrays['v_template'] * np.nan)
    refused('found parents', kintree_table=np.zeros((2, 5), int))
    with pytest.raises(HeadModelError, match=r'template OBJ: wanted the \d+ triangles of flame, found 1'):
        flame_to_head(arrays, name='flame', version='1', uv=(np.zeros((3, 2)), np.zeros((1, 3), int)))


def test_a_pickle_is_not_loaded_but_pointed_to_the_converter(tmp_path):
    with pytest.raises(HeadModelError, match='sega head convert'):
        load_head(tmp_path / 'generic_model.pkl')


def test_export_refuses_what_flame_cannot_hold(flame, tmp_path):
    import dataclasses

    wide = dataclasses.replace(flame, shapedirs=np.zeros((len(flame.v_template), 3, 301), np.float32))
    with pytest.raises(HeadModelError, match=r'FLAME holds 300 \+ 100 columns, found 301 \+ 39'):
        export_flame(wide, tmp_path)
