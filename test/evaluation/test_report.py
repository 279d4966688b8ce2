"""The report of a run: everything in one page, nothing blank, every mark leads to the right picture."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_runs import columns, read_number, write_clip, write_run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sega_ros.errors import RecordingError
from sega_ros.evaluation.replay.clip_frames import ClipFrames, choose_passages, small_clip
from sega_ros.evaluation.replay.finished import read_run
from sega_ros.evaluation.replay.moments import PANELS, choose_moments
from sega_ros.evaluation.replay.report import report_page, write_report
from sega_ros.evaluation.replay.report_plots import envelope, spans_of, time_plot
from sega_ros.evaluation.replay.rows import FIGURES
from sega_ros.evaluation.replay.strips import HEAT_END, difference_heat


class Page(HTMLParser):
    """What a page consists of."""

    VOID = frozenset(('meta', 'br', 'img', 'link', 'input', 'hr'))

    def __init__(self, data):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(data.decode())
        assert not self.open, f'not closed: {self.open}'

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (['style'], ['script']):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self):
        return [a['id'] for _, a in self.tags if 'id' in a]

    @property
    def words(self):
        return ' '.join(' '.join(self.text).split())


def page_of(run_folder):
    return Page(write_report(run_folder).read_bytes())


def picture_of(entry_html):
    uri = re.search(r'src="data:image/jpeg;base64,([^"]*)"', entry_html)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))


def moments_in(data):
    """The HTML of every shown frame, by its number."""
    entries = re.finditer(r'<figure class="moment" id="frame-(\d+)".*?</figure>', data.decode(), re.DOTALL)
    return {int(m[1]): m[0] for m in entries}


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory):
    """Twelve seconds; frame 200 is worst in PSNR, 100 in AKD, frames 30 to 39 are lost."""
    table = columns(360)
    table['psnr_face'][200], table['akd'][100] = 12.5, 40.0
    table['lost'][30:40] = True
    table['akd'][30:40] = table['aed'][30:40] = np.nan
    table['scored'][300:310] = table['driver_face'][300:310] = False
    for f in FIGURES:
        if not f.name.endswith('_driver'):
            table[f.name][300:310] = np.nan
    return write_run(tmp_path_factory.mktemp('run'), table, warnings=['the tracker lost the face twice'])


@pytest.fixture(scope='module')
def data(run_folder):
    return write_report(run_folder).read_bytes()


def test_page_stands_alone(data):
    page = Page(data)
    addresses = [a[k] for _, a in page.tags for k in ('src', 'href', 'xlink:href') if k in a]
    assert addresses and all(a.startswith(('data:', '#')) for a in addresses)
    assert not re.search(r'@import|url\(\s*["\']?(?!#)', data.decode()) and not page.all('link') and not page.all('iframe')
    policy = next(m['content'] for m in page.all('meta') if m.get('http-equiv') == 'Content-Security-Policy')
    assert policy.startswith("default-src 'none'") and 'http' not in policy
    assert len(page.all('script')) == 1


def test_the_page_lets_its_own_script_run(data):
    import hashlib

    script = re.search(r'<script>(.*?)</script>', data.decode(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in data.decode() and 'currentTime' in script


def test_every_mark_has_its_frame(data):
    page = Page(data)
    assert len(page.ids) == len(set(page.ids))
    linked = {a['xlink:href'] for a in page.all('a') if 'xlink:href' in a}
    assert {'#frame-200', '#frame-100'} <= linked and all(link[1:] in page.ids for link in linked)
    assert sum('xlink:href' in a for a in page.all('a')) == 3 * len(PANELS)
    assert not [a for a in page.all('a') if 'target' in a], 'links stay in the page'
    local = [a['href'] for a in page.all('a') if 'href' in a]
    assert local and set(local) == {'#clip'} and 'clip' in page.ids


def test_pictures_are_those_of_their_frames(data):
    shown = moments_in(data)
    assert {200, 100} <= shown.keys() and len(shown) >= 9 and 'Worst' in shown[200] and 'no face' in shown[30]
    for number, entry in shown.items():
        picture = picture_of(entry)
        assert read_number(picture[:, :256]) == number and picture.shape == (256, 768, 3)


def test_the_clip_is_in_the_page(data, run_folder):
    video = Page(data).all('video')[0]
    assert base64.b64decode(video['src'].split(',')[1]) == (run_folder / 'side_by_side.mp4').read_bytes()
    assert json.loads(video['data-passages']) == [[0, 360]] and float(video['data-fps']) == 30


def test_summary_is_stated_with_units_and_masks(data, run_folder):
    words = Page(data).words
    summary = json.loads((run_folder / 'summary.json').read_text())
    for f in FIGURES:
        row = re.search(rf'<tr><th><code>{f.name}</code>.*?</tr>', data.decode(), re.DOTALL)[0]
        if f.name in summary['missing']:
            assert 'not measured: needs weights' in row
        else:
            mean, median = (f'{summary["figures"][f.name][k]:.4g}' for k in ('mean', 'median'))
            assert f'>{mean}<' in row and f'>{median}<' in row and (not f.metadata['unit'] or f.metadata['unit'] in row)
    for text in (*summary['masks'].values(), summary['inputs'][0]['sha256'], 'own avatar', 'the tracker lost the face twice',
                 '350 were scored', 'shows none', 'p99'):
        assert text in words
    assert not re.search(r'<t[dh][^>]*></td>', data.decode()) and 'nan' not in words.lower().split()


def test_same_run_same_page(run_folder, data):
    assert report_page(read_run(run_folder)) == data


def test_hostile_names_are_only_text(tmp_path):
    evil = '</title><script>alert(1)</script>"\' onload=alert(2) {{ 7*7 }} &amp;'
    folder = write_run(tmp_path, columns(40), topic=evil, name=evil, warnings=[evil], protocol='self', config={evil: evil},
                       masks={'face': evil}, about={'machine': {evil: evil}})
    summary = json.loads((folder / 'summary.json').read_text())
    summary['missing']['csim'] = summary['identity']['kind'] = summary['view'] = summary['protocol'] = evil
    (folder / 'summary.json').write_text(json.dumps(summary))
    page = page_of(folder)
    assert len(page.all('script')) == 1 and page.words.count(evil) >= 9
    assert not [name for _, a in page.tags for name in a if name.startswith('on')]


def unscored(table):
    figures = {f.name: np.full(len(table['frame']), np.nan) for f in FIGURES}
    return {**table, **figures, 'scored': np.zeros(len(table['frame']), bool)}


def test_no_frame_scored(tmp_path):
    table = unscored(columns(30))
    table['driver_face'][:] = False
    data = write_report(write_run(tmp_path, table)).read_bytes()
    page = Page(data)
    assert 'No frame was scored: no face was found in any of the 30 driving frames' in page.words
    assert 'not measured: no frame was scored' in page.words and len(page.all('svg')) == 1 and len(moments_in(data)) == 3


def test_run_without_a_truth(tmp_path):
    table = columns(60)
    for f in FIGURES:
        if f.name.startswith(('psnr', 'ssim', 'ms_ssim', 'akd', 'feature', 'identity')):
            table[f.name][:] = np.nan
    data = write_report(write_run(tmp_path, table, protocol='cross')).read_bytes()
    words = Page(data).words
    assert 'not measured: no frame shows what the avatar ought to look like' in words
    assert 'Ranked by AED' in words and 'error (mean' not in words
    assert all(picture_of(entry).shape == (256, 512, 3) for entry in moments_in(data).values())


@pytest.mark.parametrize('make', [
    lambda: columns(1), lambda: unscored(columns(1)), lambda: columns(2, fps=5), lambda: columns(3, stamp_ns=np.full(3, 7)),
    lambda: columns(40, stamp_ns=np.arange(40)[::-1] * 10**8)], ids=['one', 'one unknown', 'two', 'one stamp', 'backwards'])
def test_corner_runs(tmp_path, make):
    data = write_report(write_run(tmp_path, make())).read_bytes()
    shown = moments_in(data)
    assert shown and all(read_number(picture_of(e)[:, :256]) == k for k, e in shown.items())
    page = Page(data)
    assert all(a['xlink:href'][1:] in page.ids for a in page.all('a') if 'xlink:href' in a)


@pytest.mark.parametrize(('clip', 'found'), [(0, 'no such file'), (20, 'ends before frame')])
def test_clip_that_is_missing_or_too_short(tmp_path, clip, found):
    table = columns(60)
    table['psnr_face'][50] = 10
    page = page_of(write_run(tmp_path, table, clip=clip))
    assert found in page.words and 'No clip is in this page' in page.words and not page.all('video') and 'frame-50' in page.ids


def test_damaged_clip(tmp_path):
    folder = write_run(tmp_path, columns(20), clip=0)
    (folder / 'side_by_side.mp4').write_bytes(b'not a clip')
    assert 'Pictures are missing here' in page_of(folder).words


def test_nothing_drawn_has_no_latency(tmp_path):
    folder = write_run(tmp_path, columns(20), latency=np.zeros(20), protocol='rendered')
    assert 'there is nothing to time' in page_of(folder).words


def test_dropped_frames_have_no_time(tmp_path):
    folder = write_run(tmp_path, columns(20), latency=np.full(15, 30.0), about={'realtime': True})
    page = page_of(folder)
    assert 'From when a frame was due' in page.words and 'were dropped at the recorded pace' in page.words
    (folder / 'run.json').write_text('{"realtime": false}')
    with pytest.raises(RecordingError, match='found 20, 15 and 20'):
        read_run(folder)


def test_long_run_stays_small(tmp_path):
    frames = 54_000
    table = columns(frames)
    table['akd'][31_234] = 99.0
    table['lost'][::7] = True
    run = read_run(write_run(tmp_path, table, clip=0))
    plots = {panel.column: time_plot(run, panel, choose_moments(run).marks[panel.column]) for panel in PANELS}
    assert sum(map(len, plots.values())) < 2_000_000 and '#frame-31234' in plots['akd']


def test_measured_every_third_frame(tmp_path):
    table = columns(90)
    skipped = np.arange(90) % 3 > 0
    table['scored'][skipped] = False
    for f in FIGURES:
        table[f.name][skipped] = np.nan
    run = read_run(write_run(tmp_path, table, clip=0, config={'score_every': 3}))
    line = max(re.findall(r'<path d="(M [^"]*)"', time_plot(run, PANELS[1], ())), key=len)
    assert len(re.findall(r'[ML] ', line)) == 30  # one line without a gap: 29 steps after its start


@given(st.lists(st.floats(-1e3, 1e3) | st.just(float('nan')), min_size=1, max_size=300), st.integers(1, 50))
def test_envelope_keeps_the_extremes(values, columns_of):
    values = np.array(values)
    middle, low, mean, high = envelope(np.arange(len(values), dtype=float), values, columns=columns_of)
    assert len(middle) == len(low) == len(mean) == len(high) == min(len(values), columns_of)
    assert np.array_equal(np.fmin.reduce(low), np.fmin.reduce(values), equal_nan=True)
    assert np.array_equal(np.fmax.reduce(high), np.fmax.reduce(values), equal_nan=True)
    known = np.isfinite(mean)
    assert np.all(low[known] <= mean[known] + 1e-9) and np.all(mean[known] <= high[known] + 1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 300))
def test_spans_cover_what_is_shaded(rows, columns_of):
    rows = np.array(rows)
    covered = np.zeros(len(rows), bool)
    for first, end in spans_of(rows, columns=columns_of):
        assert rows[first] and rows[end - 1] and not covered[first:end].any()
        covered[first:end] = True
    assert covered[rows].all()
    if len(rows) <= columns_of:
        assert np.array_equal(covered, rows)


@given(st.integers(1, 60_000), st.lists(st.integers(0, 59_999), max_size=30))
def test_passages(count, rows):
    rows = [r for r in rows if r < count]
    passages = choose_passages(count, 30.0, rows)
    ends = [x for passage in passages for x in passage]
    assert ends[0] == 0 and ends == sorted(set(ends)) and ends[-1] <= count
    assert all(any(a <= r < b for a, b in passages) for r in rows)
    assert sum(b - a for a, b in passages) <= 5400 + 91 * len(rows)


@pytest.mark.parametrize('fps', [25, 30, 29.97])
def test_frames_are_found_by_their_number(tmp_path, fps):
    write_clip(tmp_path / 'clip.mp4', 1100, fps=fps)
    wanted = [0, 1, 5, 249, 250, 251, 600, 601, 998, 1099]
    with ClipFrames(tmp_path / 'clip.mp4') as frames:
        found = [read_number(frames.at(k)[:, :128]) for k in [*wanted, 3, 777]]
    assert found == [*wanted, 3, 777]


def test_small_clip_keeps_every_frame_in_its_place(tmp_path, monkeypatch):
    from sega_ros.evaluation.replay import clip_frames

    monkeypatch.setattr(clip_frames, '_WHOLE', 300)
    monkeypatch.setattr(clip_frames, '_FIRST', 100)
    write_clip(tmp_path / 'clip.mp4', 700)
    limit = (tmp_path / 'clip.mp4').stat().st_size - 1
    found = small_clip(tmp_path / 'clip.mp4', [650, 400], limit=limit)
    assert found.passages == ((0, 100), (355, 446), (605, 696)) and not found.original
    (tmp_path / 'small.mp4').write_bytes(found.data)
    with ClipFrames(tmp_path / 'small.mp4') as frames:
        numbers = [read_number(image[:, :image.shape[1] // 2]) for image in frames.passages([(0, frames.count)])]
    assert numbers == [k for a, b in found.passages for k in range(a, b)]


def test_clip_that_can_never_fit(tmp_path):
    write_clip(tmp_path / 'clip.mp4', 50)
    assert small_clip(tmp_path / 'clip.mp4', [], limit=500) is None
    assert small_clip(tmp_path / 'clip.mp4', [], limit=10**6).original


def test_heat_is_the_difference():
    true, drawn = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)
    drawn[0, 0], drawn[0, 1], drawn[1, 2] = HEAT_END, 255, (30, 0, 0)
    heat = difference_heat(true, drawn).astype(int)
    assert np.array_equal(heat[0, 0], heat[0, 1]) and heat[0, 0].sum() > heat[1, 2].sum() > heat[1, 0].sum()


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda f: (f / 'summary.json').unlink(), 'not a finished run.*summary.json missing'),
    (lambda f: (f / 'unfinished.json').write_text('{}'), 'not a finished run.*unfinished.json is there'),
    (lambda f: (f / 'summary.json').write_text('{'), 'summary.json: cannot be read as JSON'),
    (lambda f: (f / 'run.json').write_text('[]'), 'wanted an object, found list'),
    (lambda f: (f / 'summary.json').write_text('{"format": 9}'), 'has format 9, this version reads 1'),
    (lambda f: (f / 'summary.json').write_text('{"format": 1, "protocol": 3}'), r'lacks protocol \(str\), view \(str\)'),
    (lambda f: (f / 'frames.csv').write_text('frame,stamp_ns\n0,0\n'), 'lacks the columns driver_face'),
    (lambda f: (f / 'frames.csv').write_text((f / 'frames.csv').read_text()[:-30]), 'damaged'),
    (lambda f: (f / 'timing.csv').write_text('frame,track_ms,bind_ms,draw_ms,latency_ms,rss_mb\n'), 'found 5, 0 and 5'),
], ids=['no summary', 'unfinished', 'no JSON', 'a list', 'format', 'keys', 'columns', 'cut', 'rows'])
def test_unfinished_and_damaged_runs(tmp_path, spoil, message):
    folder = write_run(tmp_path, columns(5), clip=0)
    spoil(folder)
    with pytest.raises(RecordingError, match=message):
        write_report(folder)
    assert not (folder / 'report.html').exists()


def test_no_folder(tmp_path):
    with pytest.raises(RecordingError, match='no such folder'):
        write_report(tmp_path / 'nothing')
