"""The report in a real browser: clicks, colours, nothing fetched."""

import asyncio
import json
import time

import numpy as np
import pytest
from evaluation_runs import columns, write_run

pytest.importorskip('aiohttp')
from chromium import PROGRAM, Chromium

from sega_ros.evaluation.replay.report import write_report

DEADLINE = 60.0  # seconds
PLACE = "document.querySelector('video').currentTime * 30 - 0.5"  # frames: whole where a frame's middle is shown
pytestmark = pytest.mark.skipif(PROGRAM is None, reason='no Chromium: apt-get install chromium')


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """A report of four seconds; frame 70 is worst in AKD, 20 in PSNR."""
    table = columns(120)
    table['akd'][70], table['psnr_face'][20] = 40.0, 10.0
    return write_report(write_run(tmp_path_factory.mktemp('run'), table))


async def until(browser, script, wanted):
    """Wait until a script's value is as wanted; returns it."""
    end, found = time.monotonic() + DEADLINE, None
    while time.monotonic() < end:
        if wanted(found := await browser.run(script)):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f'{script}: still {found!r}')


async def click(browser, selector):
    await browser.run(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
    box = json.loads(await browser.run(f"JSON.stringify(document.querySelector('{selector}').getBoundingClientRect())"))
    for kind in ('mousePressed', 'mouseReleased'):
        await browser.call('Input.dispatchMouseEvent', type=kind, button='left', clickCount=1,
                           x=box['x'] + box['width'] / 2, y=box['y'] + box['height'] / 2)


def test_marks_and_links_lead_to_frame_and_clip(page):
    async def visit():
        async with Chromium((900, 1100)) as browser:
            await browser.open(page.as_uri())
            await until(browser, "document.querySelector('video')?.readyState", lambda v: v and v >= 1)
            for row in (70, 20):
                await click(browser, f'svg a[*|href="#frame-{row}"]')
                await until(browser, 'location.hash', f'#frame-{row}'.__eq__)
                await until(browser, PLACE, lambda place, k=row: abs(place - k) < 0.01)
                await until(browser, "document.getElementById('place').textContent", lambda text, k=row: f'row {k} of' in text)
                top = await browser.run("document.querySelector(':target').getBoundingClientRect().top")
                assert -1 <= top < 900, 'the frame is not in sight'
            await click(browser, '#frame-70 figcaption a')
            await until(browser, 'location.hash', '#clip'.__eq__)
            await until(browser, PLACE, lambda place: abs(place - 70) < 0.01)

    asyncio.run(visit())


def test_colours_follow_the_scheme(page):
    async def visit():
        async with Chromium((900, 1100)) as browser:
            await browser.open(page.as_uri())
            await until(browser, 'document.readyState', 'complete'.__eq__)
            for scheme, paper in (('light', 254), ('dark', 21)):
                await browser.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
                await browser.run("document.querySelector('svg').scrollIntoView()")
                await until(browser, 'getComputedStyle(document.body).backgroundColor',
                            lambda color, p=paper: color.startswith(f'rgb({p},'))
                words = json.loads(await browser.run(
                    "JSON.stringify([...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill))"))
                ink = np.array([[int(v) for v in w[4:-1].split(',')] for w in words])
                assert len(ink) > 50 and np.all(np.abs(ink.astype(int) - paper) > 150), 'words in the plots can be read'

    asyncio.run(visit())
