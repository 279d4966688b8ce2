"""A headless Chromium with one page, spoken to in its DevTools protocol."""

import asyncio
import base64
import itertools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np

from sega_ros.io import decode_image

PROGRAM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
_START = 60.0  # seconds
_NO_PAGE = -32000  # the protocol's code for 'Not attached to an active page' and the like


class Chromium:
    """`async with Chromium((H, W)) as browser`: open pages, run scripts in them, look at them."""

    def __init__(self, size):
        self._size, self._ids = size, itertools.count(1)

    async def __aenter__(self):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Without a sandbox: in containers the tests run as root, which Chromium's sandbox refuses.
        self._process = subprocess.Popen(
            [PROGRAM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
             '--hide-scrollbars', '--remote-debugging-port=0', f'--user-data-dir={self._folder.name}', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(await self._page(), max_msg_size=0)
        height, width = self._size
        await self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
        return self

    async def __aexit__(self, *_):
        await self._client.close()
        self._process.terminate()
        self._process.wait(15)
        self._folder.cleanup()

    async def _page(self):
        """Return the address of the page's socket, once the browser has written where it listens."""
        told, end = Path(self._folder.name) / 'DevToolsActivePort', time.monotonic() + _START
        while time.monotonic() < end and self._process.poll() is None:
            if told.exists() and (port := told.read_text().split('\n')[0]):
                async with self._client.get(f'http://127.0.0.1:{port}/json/list') as answer:
                    if pages := [t for t in await answer.json() if t['type'] == 'page']:
                        return pages[0]['webSocketDebuggerUrl']
            await asyncio.sleep(0.05)
        raise AssertionError(f'{PROGRAM} did not start')

    async def call(self, method, **parameters):
        """Call a method and return its result; again while one page makes way for another."""
        end = time.monotonic() + _START
        while (error := (answer := await self._ask(method, parameters)).get('error')):
            assert error['code'] == _NO_PAGE and time.monotonic() < end, f'{method}: {error}'
            await asyncio.sleep(0.05)
        return answer['result']

    async def _ask(self, method, parameters):
        number = next(self._ids)
        await self._socket.send_json({'id': number, 'method': method, 'params': parameters})
        while (answer := await self._socket.receive_json()).get('id') != number:
            pass
        return answer

    async def open(self, address):
        """Open a page."""
        await self.call('Page.navigate', url=address)

    async def run(self, script):
        """Run a script on the page and return its value."""
        return (await self.call('Runtime.evaluate', expression=script))['result'].get('value')

    async def text(self):
        """Return the words on the page."""
        return await self.run('document.body.innerText') or ''

    async def screenshot(self):
        """Return what is seen, uint8 RGB [H, W, 3]."""
        shot = await self.call('Page.captureScreenshot', format='png')
        return np.array(decode_image(base64.b64decode(shot['data']), name='screenshot'))
