"""The gsplat adapter: its logic on the CPU; its pictures where there is CUDA."""

import importlib.metadata
import inspect
from dataclasses import replace

import pytest
import torch
from render_scenes import FIELDS, assert_pictures_agree, camera_of, cloud, outputs_and_gradients

from sega_ros.errors import BackendError
from sega_ros.render import cuda, rasterize
from sega_ros.render.reference import project

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')


def test_arguments_fit_gsplats_signature():
    gsplat = pytest.importorskip('gsplat', reason="gsplat is not installed: pip install 'gsplat>=1.5'")
    arguments = cuda.gsplat_arguments(cloud(3), camera_of((4, 6)), with_depth=True)
    signature = inspect.signature(gsplat.rasterization)
    bound = signature.bind(**arguments)
    assert {p.name for p in signature.parameters.values() if p.default is p.empty} <= set(bound.arguments)
    assert signature.parameters['rasterize_mode'].default == 'classic'
    assert signature.parameters['camera_model'].default == 'pinhole'


def test_arguments_describe_the_same_view_as_the_reference():
    splats, camera = cloud(40), camera_of((30, 50))
    a = cuda.gsplat_arguments(splats, camera, with_depth=False)
    assert (a['height'], a['width'], a['render_mode']) == (30, 50, 'RGB')
    homogeneous = torch.cat([a['means'], torch.ones(40, 1)], 1)
    pixels = (a['Ks'][0] @ (a['viewmats'][0] @ homogeneous.T)[:3]).T
    ours = project(splats, camera)
    torch.testing.assert_close((pixels[:, :2] / pixels[:, 2:])[ours.ids], ours.means2d, rtol=1e-4, atol=1e-3)


def test_undrawable_splats_turn_transparent_without_gradient():
    splats = cloud(4)
    means = splats.means.clone()
    means[2] = float('nan')
    means.requires_grad_()
    splats = replace(splats, means=means)
    a = cuda.gsplat_arguments(splats, camera_of((4, 4)), with_depth=False)
    assert a['means'].isfinite().all() and a['opacities'][2] == 0 and (a['opacities'][[0, 1, 3]] > 0).all()
    a['means'].sum().backward()
    assert means.grad[2].tolist() == [0, 0, 0]


def test_missing_parts_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    pytest.importorskip('gsplat', reason="gsplat is not installed: pip install 'gsplat>=1.5'")
    with pytest.raises(BackendError, match='needs a CUDA device'):
        cuda.load_gsplat()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(cuda, '_kernels', lambda: False)
    with pytest.raises(BackendError, match='install the CUDA toolkit'):
        cuda.load_gsplat()
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: '1.4.0')
    with pytest.raises(BackendError, match='needs gsplat 1.5 or newer, found 1.4.0'):
        cuda.load_gsplat()


def test_missing_gsplat_is_named(monkeypatch):
    def refuse(name):
        raise ImportError('No module named gsplat')

    monkeypatch.setattr(cuda.importlib, 'import_module', refuse)
    with pytest.raises(BackendError, match=r"can't be imported .*pip install 'gsplat>=1.5'"):
        cuda.load_gsplat()


@needs_cuda
@pytest.mark.parametrize('with_depth', [False, True])
def test_pictures_and_gradients_equal_the_reference(with_depth):
    splats, camera = cloud(1500, seed=1).to('cuda'), camera_of((97, 61))
    background = torch.rand(97, 61, 3, generator=torch.Generator().manual_seed(2)).cuda()
    ours = outputs_and_gradients(splats, camera, background=background, backend='cuda', with_depth=with_depth)
    exact = outputs_and_gradients(splats, camera, background=background, backend='reference', with_depth=with_depth)
    assert_pictures_agree(ours['image'].cpu(), exact['image'].cpu())
    for f in FIELDS:
        torch.testing.assert_close(
            ours['v_' + f], exact['v_' + f], rtol=1e-3, atol=1e-3 * float(exact['v_' + f].abs().max())
        )


@needs_cuda
def test_cuda_is_picked_for_cuda_tensors():
    splats, camera = cloud(50), camera_of((20, 30))
    assert_pictures_agree(
        rasterize(splats.to('cuda'), camera).image.cpu(), rasterize(splats, camera, backend='reference').image
    )
