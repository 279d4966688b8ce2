"""Creating an avatar: what comes out, progress, cancellation at every stage, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.avatar import create
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import CancelledError, FaceTooSmallError, ImageError, NoFaceError, RequestError
from sega_ros.head.atlas import build_atlas
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.types import Region

STAGES = ['detect', 'fit', 'unwrap', 'personalise', 'bake', 'done']


@pytest.fixture
def quick(monkeypatch, creation, head, astronaut):
    """Create with few steps on a small atlas and crop; the finished parts of the first stages are handed in."""
    photo = creation.parts.photo
    small = {k: np.ascontiguousarray(getattr(photo, k)[::4, ::4]) for k in ('image', 'color', 'alpha', 'inside')}
    photo = replace(photo, scale=photo.scale / 4, **small)
    monkeypatch.setitem(create.QUALITIES, 'quick', create.Quality(64, 0, 25))
    monkeypatch.setattr(create, 'prepare_photo', lambda image, detect: photo)
    monkeypatch.setattr(create, 'fit_identity', lambda *_: creation.parts.fit)
    monkeypatch.setattr(create, 'solve_personal_offset', lambda *_: creation.parts.identity)

    def call(**options):
        return create.create_avatar(astronaut, head=head, embedding=landmark_embedding(head),
                                    **{'quality': 'quick', **options})

    return call


def test_the_face_is_the_photo_s(creation):
    """An avatar of standard quality looks like its photo."""
    assert creation.avatar.metadata['photo_psnr'] >= 28


def test_photo_psnr_is_what_the_avatar_shows(creation, head):
    """The figure is that of the finished avatar, driven: measured here from the picture, over the middle of the face."""
    avatar, photo = creation.avatar, creation.parts.photo
    driver = AvatarDriver(avatar, head)
    message = replace(driver.neutral(), params=creation.parts.fit.params)
    from sega_ros.render import rasterize_arrays

    picture = rasterize_arrays(*driver.splats(message, View('input'), avatar.photo_camera), avatar.photo_camera,
                               background=avatar.background)
    points = (photo.landmarks.points[:468, :2] - photo.origin) * photo.scale
    rows, cols = np.mgrid[:512, :512] + 0.5
    radius = np.ptp(points, axis=0) / 2
    centre = (points.min(0) + points.max(0)) / 2
    face = ((cols - centre[0]) / radius[0]) ** 2 + ((rows - centre[1]) / radius[1]) ** 2 < 0.8
    error = (picture / 255.0 - photo.image)[face]
    assert -10 * np.log10((error**2).mean()) == pytest.approx(avatar.metadata['photo_psnr'], abs=3)


def test_progress_tells_every_stage_and_never_goes_back(creation):
    stages = [stage for stage, _, _ in creation.reports]
    shares = [share for _, share, _ in creation.reports]
    assert list(dict.fromkeys(stages)) == STAGES
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert stages.count('personalise') >= 3, 'the longest stage reports on its way'


def test_previews_are_pictures_that_approach_the_photo(creation):
    pictures = [p for _, _, p in creation.reports if p is not None]
    assert len(pictures) >= 3
    for picture in pictures:
        assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    photo = creation.parts.photo
    solid = photo.alpha > 0.99
    start, end = (next(p for s, _, p in order if s == 'personalise' and p is not None)
                  for order in (creation.reports, creation.reports[::-1]))
    error = [np.abs(p[solid] / 255.0 - photo.image[solid]).mean() for p in (start, creation.reports[-1][2])]
    assert error[1] < 0.8 * error[0]
    assert (end != start).any()


def test_metadata(creation):
    metadata = creation.avatar.metadata
    assert metadata['quality'] == 'standard' and metadata['consent'] == 'public domain'
    assert metadata['synthetic'] is True and metadata['created_ns'] > 1_600_000_000 * 10**9
    assert metadata['create_seconds'] > 0
    assert metadata['splats'] < 70_000
    assert creation.avatar.warnings == creation.parts.photo.warnings


def test_static_and_dynamic_share_the_surface(creation, head):
    """Each texel is in one of the two maps, and the background of the photo in none."""
    avatar = creation.avatar
    atlas = build_atlas(head, avatar.atlas_size)
    there = {k: getattr(avatar, k).opacity.numpy() > -7 for k in ('static', 'dynamic')}
    assert not (there['static'] & atlas.dynamic).any() and not (there['dynamic'] & ~atlas.dynamic).any()
    covered = there['static'] | there['dynamic']
    assert not covered[~atlas.valid].any()
    assert covered[atlas.valid & ~np.isin(atlas.region, [Region.NECK, Region.SCALP])].mean() > 0.99
    assert covered[atlas.region == Region.SCALP].mean() > 0.2, 'thinned out under the hair'
    assert 0.3 < covered[atlas.region == Region.NECK].mean() < 1, 'its end is left to the bust'
    for field in vars(avatar.static).values():
        assert np.isfinite(field.numpy()).all()


# --- cancelling -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('stage', STAGES)
def test_cancel_at_each_stage(quick, stage):
    """It stops at the next step: the stage is announced to nobody and nothing comes out."""
    reached, previous = [], None if stage == 'detect' else STAGES[STAGES.index(stage) - 1]

    def cancelled():
        return previous is None or bool(reached and reached[-1] == previous and (
            stage != 'bake' or reached.count('personalise') >= 3))

    with pytest.raises(CancelledError, match=f"cancelled at stage '{stage}'; nothing was stored"):
        quick(cancelled=cancelled, progress=lambda stage, *_: reached.append(stage))
    assert list(dict.fromkeys(reached)) == STAGES[:STAGES.index(stage)]


def test_cancel_in_the_middle_of_the_optimisation(quick, monkeypatch):
    monkeypatch.setitem(create.QUALITIES, 'quick', create.Quality(64, 0, 40))
    shares = []

    def progress(stage, share, _):
        if stage == 'personalise':
            shares.append(share)

    with pytest.raises(CancelledError, match="at stage 'personalise'"):
        quick(progress=progress, cancelled=lambda: len(shares) == 3)
    assert shares[-1] == pytest.approx(0.6), 'half of the steps are done: not only at its end'


def test_nothing_is_stored(quick, tmp_path):
    store = AvatarStore(tmp_path / 'avatars')
    with pytest.raises(CancelledError):
        store.save('ann', quick(cancelled=lambda: True))
    assert not store.list() and not (tmp_path / 'avatars').exists()


def test_a_failing_listener_is_not_swallowed(quick):
    def progress(stage, *_):
        if stage == 'unwrap':
            raise OSError('the listener broke')

    with pytest.raises(OSError, match='the listener broke'):
        quick(progress=progress)


def test_what_is_shaped_like_no_face_is_refused(quick, monkeypatch, creation):
    """MediaPipe sees faces in dogs and clouds; no head model fits them."""
    strange = replace(creation.parts.fit, rms_px=create.MAX_FIT_PX + 0.5)
    monkeypatch.setattr(create, 'fit_identity', lambda *_: strange)
    with pytest.raises(NoFaceError, match=r'does not have the shape of a human face \(landmark error 4\.0 px'):
        quick()


# --- refusals ---------------------------------------------------------------------------------------------------------

def refused(image, head, **options):
    return create.create_avatar(image, head=head, embedding=None, **options)


def test_unknown_quality_is_refused_before_any_work(head, astronaut):
    def progress(*_):
        raise AssertionError('it started')

    with pytest.raises(RequestError, match="quality 'best': wanted one of preview, standard, high"):
        refused(astronaut, head, quality='best', progress=progress)


def test_too_long_a_consent_is_refused(head, astronaut):
    with pytest.raises(RequestError, match='consent: wanted at most 256 characters, found 257: shorten it'):
        refused(astronaut, head, consent='x' * 257)


def test_an_atlas_out_of_range_is_refused(head, astronaut):
    with pytest.raises(RequestError, match='atlas: wanted 96 to 512 texels a side, found 4096'):
        refused(astronaut, head, atlas=4096)


@pytest.mark.parametrize('image', [np.zeros((0, 0, 3), np.uint8), np.zeros((9, 9), np.uint8), None])
def test_no_picture(head, image):
    with pytest.raises(ImageError, match='photo: wanted uint8 RGB'):
        refused(image, head)


def test_bad_photos_are_refused_at_the_first_stage(head, astronaut):
    stages = []
    for image, error in ((np.full((200, 300, 3), 128, np.uint8), NoFaceError), (astronaut[::2, ::2], FaceTooSmallError)):
        with pytest.raises(error):
            refused(np.ascontiguousarray(image), head, progress=lambda stage, *_: stages.append(stage))
    assert set(stages) == {'detect'}
