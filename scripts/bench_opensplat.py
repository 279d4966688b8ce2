#!/usr/bin/env python3
"""Time our CPU renderer beside OpenSplat's (C++, gsplat-cpu) on the same scenes, one thread, forward.

    scripts/env.sh scripts/bench_opensplat.py CHECKOUT

CHECKOUT is a clone of https://github.com/pierotofy/OpenSplat (AGPL-3.0: compiled here, in a temporary folder, never a part of
this package); it needs a C++ compiler and ninja. Both times hold projecting, sorting and blending, float32 pictures. OpenSplat
cuts a splat at three standard deviations where we cut it at 1/255, so that the pictures differ by about 59 dB.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from sega_ros.evaluation.bench_render import frontal_camera, surface_splats, times_ms
from sega_ros.render import rasterize_arrays
from sega_ros.types import Camera, Splats

SCENES = ((30_000, 512), (80_000, 1024))  # splats of the surface, pixels a side
FLAGS = ['-O3', '-march=native']
NEAR, FAR = 0.01, 10.0
_CODE = 'rasterizer/gsplat-cpu/gsplat_cpu.cpp'
_BINDING = """
#include <torch/extension.h>
auto project(torch::Tensor m, torch::Tensor s, torch::Tensor q, torch::Tensor view, torch::Tensor projection, double fx,
             double fy, double cx, double cy, int h, int w) {
  torch::NoGradGuard guard;
  return project_gaussians_forward_tensor_cpu(m.size(0), m, s, 1.0f, q, view, projection, fx, fy, cx, cy, h, w, 0.01f);
}
torch::Tensor rasterize(int w, int h, torch::Tensor xys, torch::Tensor conics, torch::Tensor colors, torch::Tensor opacities,
                        torch::Tensor background, torch::Tensor cov, torch::Tensor depths) {
  auto made = rasterize_forward_tensor_cpu(w, h, xys, conics.contiguous(), colors, opacities, background, cov,
                                           depths.contiguous());
  delete[] std::get<2>(made);
  return std::get<0>(made);
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("project", &project); m.def("rasterize", &rasterize); }
"""


def build(checkout: Path, folder: Path):
    """Compile OpenSplat's renderer as a Python module."""
    from torch.utils.cpp_extension import load

    code = checkout / _CODE
    if not code.is_file():
        raise SystemExit(f'{code} is missing: give the folder of an OpenSplat checkout')
    source = folder / 'opensplat_cpu.cpp'
    # std::iota and std::sort want headers that other compilers include by themselves.
    source.write_text(f'#include <algorithm>\n#include <numeric>\n#include "{code.resolve()}"\n{_BINDING}')
    return load('opensplat_cpu', [str(source)], extra_cflags=FLAGS, build_directory=str(folder))


def opensplat(module, splats: Splats, camera: Camera) -> torch.Tensor:
    """Picture [H, W, 3] over black."""
    width, height = camera.width, camera.height
    view = torch.tensor(camera.viewmat, dtype=torch.float32)
    clip = torch.zeros(4, 4)
    clip[0, 0], clip[1, 1], clip[3, 2] = 2 * camera.fx / width, 2 * camera.fy / height, 1.0
    clip[2, 2], clip[2, 3] = (FAR + NEAR) / (FAR - NEAR), -FAR * NEAR / (FAR - NEAR)
    xys, _, conics, cov, depths = module.project(
        splats.means, splats.scales, splats.quats, view, clip @ view, camera.fx, camera.fy, camera.cx, camera.cy, height, width)
    return module.rasterize(width, height, xys, conics, splats.colors, splats.opacities, torch.zeros(3), cov, depths)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkout', type=Path, metavar='CHECKOUT', help='folder of an OpenSplat checkout')
    parser.add_argument('--seconds', type=float, default=2.0, help='for about so long each renderer draws (default 2)')
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        module = build(options.checkout, Path(folder))
        print(f'| scene | ours ms | OpenSplat ({" ".join(FLAGS)}) ms | ours is | pictures agree |\n|---|---|---|---|---|')
        for count, size in SCENES:
            splats, camera = surface_splats(count), frontal_camera(size)
            arrays = tuple(getattr(splats, k).numpy() for k in ('means', 'quats', 'scales', 'opacities', 'colors'))
            out = np.empty((size, size, 3), np.float32)

            def ours(arrays=arrays, camera=camera, out=out) -> np.ndarray:
                return rasterize_arrays(*arrays, camera, out=out)

            def theirs(splats=splats, camera=camera) -> torch.Tensor:
                return opensplat(module, splats, camera)

            psnr = -10 * np.log10(np.mean((ours() - theirs().numpy()) ** 2))
            a, b = (statistics.median(times_ms(run, options.seconds)) for run in (ours, theirs))
            print(f'| {count:,} splats, {size} x {size} | {a:.2f} | {b:.1f} | {b / a:.0f} times as fast | {psnr:.0f} dB |')
    return 0


if __name__ == '__main__':
    sys.exit(main())
