"""Numbers that all backends share, gsplat's (csrc/Common.h, ProjectionEWA3DGSFused.cu, RasterizeToPixels3DGSFwd.cu)."""

BLUR = 0.3  # px^2, added to the diagonal of the projected covariance
ALPHA_MAX = 0.999
ALPHA_CUT = 1 / 255  # a splat is skipped where its alpha is below
TRANSMITTANCE_MIN = 1e-4  # the splat that would take the transmittance here or below ends the pixel, undrawn
NEAR = 0.01  # metres
CLAMP = 0.3  # the Jacobian is taken at most this many half fields of view outside of the image
DEPTH_ALPHA_MIN = 1e-10  # divisor of the mean depth where nothing was drawn
