// A click on a mark or on "play" moves the clip to that frame; under the clip stands which frame it shows.
const video = document.querySelector('video');
const passages = video ? JSON.parse(video.dataset.passages) : []; // [first, end) rows, one after the other in the clip
const fps = video ? Number(video.dataset.fps) : 1;

function placeOf(row) {
  let place = 0;
  for (const [first, end] of passages) {
    if (row >= first && row < end) return place + row - first;
    place += end - first;
  }
  return null;
}

function rowAt(place) {
  for (const [first, end] of passages) {
    if (place < end - first) return first + place;
    place -= end - first;
  }
  return null;
}

function seek(row) {
  const place = placeOf(row);
  if (place === null) return;
  video.pause();
  video.currentTime = (place + 0.5) / fps; // the middle of a frame: its edge may show the one before
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a');
  if (!link || !video) return;
  const target = link.getAttribute('href') || link.getAttributeNS('http://www.w3.org/1999/xlink', 'href') || '';
  const entry = link.dataset.row ? link : document.getElementById(target.slice(1));
  if (entry && entry.dataset.row) seek(Number(entry.dataset.row));
});

function showPlace() {
  const row = rowAt(Math.floor(video.currentTime * fps + 1e-6));
  document.getElementById('place').textContent = row === null ? '' : `row ${row} of frames.csv (the first is 0)`;
}

if (video) for (const event of ['seeking', 'timeupdate']) video.addEventListener(event, showPlace);
